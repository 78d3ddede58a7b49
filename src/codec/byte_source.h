// SPDX-License-Identifier: Apache-2.0
// ByteSource: where the codec reads its bytes from, a file of any StorageBackend or a piece of memory.
//
// The codec knows no storage: callers put a RandomAccessFile behind `read_at`. A value; as safe for several threads as
// the function in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace ckptio::detail {

// How to go through a source with several threads.
struct ScanSource {
  // As ByteSource::read_at, from any thread.
  std::function<void(std::uint64_t offset, void* destination, std::size_t n_bytes)> read_at;
  // Calls part(0), ..., part(n_parts - 1), each once and from any thread, with kRoomBytes of memory. Parts throw
  // nothing.
  std::function<void(std::size_t n_parts, const std::function<void(std::size_t part, unsigned char* room)>& part)> run;
  static constexpr std::size_t kRoomBytes = std::size_t{1} << 20;
  // Contents that are seen on the way are held against their CRCs, to be read unchecked later.
  bool check_contents = false;
};

struct ByteSource {
  std::string name;        // for messages: the path the user gave
  std::uint64_t size = 0;  // bytes

  // Reads exactly `n_bytes` bytes from `offset` on, or throws. Only ranges inside `size` are asked for.
  std::function<void(std::uint64_t offset, void* destination, std::size_t n_bytes)> read_at{};

  // Says what is going to be read, so that it is fetched meanwhile. Null: nothing does that.
  std::function<void(std::uint64_t offset, std::size_t n_bytes)> prefetch{};

  std::shared_ptr<const ScanSource> scan{};  // if there is one: else what is gone through is read by read_at
};

// Bytes in memory, which must outlive the source.
inline ByteSource memory_source(std::string name, const void* data, std::size_t n_bytes) {
  return {std::move(name), n_bytes,
          [data](std::uint64_t offset, void* destination, std::size_t n_wanted) {
            if (n_wanted > 0) std::memcpy(destination, static_cast<const char*>(data) + offset, n_wanted);
          },
          nullptr};
}

// The `n_bytes` bytes from `begin` on as a source of their own: one archive of several in a file.
// Requires: the range is inside `whole`.
inline ByteSource slice_source(std::string name, const ByteSource& whole, std::uint64_t begin, std::uint64_t n_bytes) {
  return {std::move(name), n_bytes,
          [read_at = whole.read_at, begin](std::uint64_t offset, void* destination, std::size_t n_wanted) {
            read_at(begin + offset, destination, n_wanted);
          },
          nullptr};
}

}  // namespace ckptio::detail
