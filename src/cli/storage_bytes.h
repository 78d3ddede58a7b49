// SPDX-License-Identifier: Apache-2.0
// StorageBytes: any range of any storage of an Archive, with bounded memory.
//
// Nothing unchecked is given out: a storage is read through once against its CRC-32 before its first byte is. Those of
// up to kHeldBytes are then kept in memory, the last used ones; of larger ones windows are read from the file. What
// cannot be read in windows (deflated, or saved in the other byte order) is unpacked into a temporary file without a
// name, in $TMPDIR. One thread at a time. Errors: those of Archive::read_storage; IoError of the temporary file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "codec/archive.h"

namespace ckptio::cli {

class StorageBytes {
 public:
  static constexpr std::uint64_t kHeldBytes = std::uint64_t{64} << 20;    // of one storage
  static constexpr std::uint64_t kCacheBytes = std::uint64_t{128} << 20;  // of all that are held

  // `on_read` is told how many bytes were read from the file, as it goes. Both must outlive this.
  explicit StorageBytes(const detail::Archive& archive, std::function<void(std::uint64_t)> on_read = {});
  ~StorageBytes();

  const detail::Archive& archive() const { return archive_; }

  // The bytes [offset, offset + n_bytes) in this machine's byte order. Requires: the range is inside the storage.
  void read(std::size_t storage, std::uint64_t offset, void* destination, std::size_t n_bytes);

  // The whole storage where it is held in memory, else null; valid until the next call.
  const unsigned char* held(std::size_t storage);

 private:
  struct Spool;
  struct Storage {
    std::vector<unsigned char> bytes;
    std::unique_ptr<Spool> spool;
    std::list<std::size_t>::iterator use{};  // its place in uses_
    bool is_held = false;
  };

  Storage& open(std::size_t storage);
  void hold(std::size_t index, Storage& storage);
  void read_file(std::size_t storage, Storage& opened, std::uint64_t offset, void* destination, std::size_t n_bytes);
  void read_paged(std::size_t storage, Storage& opened, std::uint64_t offset, unsigned char* destination,
                  std::size_t n_bytes);

  const detail::Archive& archive_;
  std::function<void(std::uint64_t)> on_read_;
  std::map<std::size_t, Storage> storages_;
  std::list<std::size_t> uses_;  // of held ones, the last used first
  std::uint64_t n_held_bytes_ = 0;

  // Pages of large storages, for tensors whose elements lie scattered: place i holds page number page_of_[i].
  std::vector<unsigned char> pages_;
  std::vector<std::uint64_t> page_of_;
  std::size_t paged_storage_ = 0;
};

}  // namespace ckptio::cli
