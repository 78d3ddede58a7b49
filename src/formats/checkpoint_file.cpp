// SPDX-License-Identifier: Apache-2.0
#include "formats/checkpoint_file.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "async/written_signal.h"
#include "ckptio/error.h"
#include "value/type_name.h"

namespace ckptio::detail {

namespace {

// What is read ahead at once: a page where readers jump, twice as much each time that they go on where they were, so
// that thousands of small records cost a few calls, and one of many large ones costs no more than its header.
constexpr std::size_t kLeastAheadBytes = std::size_t{4} << 10;
constexpr std::size_t kMostAheadBytes = std::size_t{1} << 20;
// Larger ranges are not taken from there.
constexpr std::size_t kSmallBytes = std::size_t{128} << 10;

class ReadAhead {
 public:
  explicit ReadAhead(const RandomAccessFile& file) : file_(file), size_(file.size()) {}

  void read(std::uint64_t offset, void* destination, std::size_t n_bytes) {
    if (n_bytes >= kSmallBytes) return file_.read_at(offset, destination, n_bytes);
    if (n_bytes == 0) return;
    if (offset < begin_ || offset - begin_ > n_held_ || n_bytes > n_held_ - (offset - begin_)) fill(offset, n_bytes);
    std::memcpy(destination, bytes_.get() + (offset - begin_), n_bytes);
  }

 private:
  void fill(std::uint64_t offset, std::size_t n_wanted) {
    const std::uint64_t n_left = size_ - offset, end = begin_ + n_held_;
    const bool goes_on = offset >= begin_ && offset <= end + kLeastAheadBytes;
    n_ahead_ = goes_on ? std::min(2 * n_ahead_, kMostAheadBytes) : kLeastAheadBytes;
    const auto n_bytes = static_cast<std::size_t>(std::min<std::uint64_t>(n_left, std::max(n_ahead_, n_wanted)));
    n_held_ = 0;  // if the file throws
    if (n_room_ < n_bytes) {
      bytes_.reset(new unsigned char[n_bytes]);
      n_room_ = n_bytes;
    }
    file_.read_at(offset, bytes_.get(), n_bytes);
    begin_ = offset;
    n_held_ = n_bytes;
  }

  const RandomAccessFile& file_;
  std::uint64_t size_;
  std::uint64_t begin_ = 0;
  std::size_t n_ahead_ = kLeastAheadBytes;
  std::unique_ptr<unsigned char[]> bytes_;  // of n_room_, the first n_held_ filled
  std::size_t n_room_ = 0, n_held_ = 0;
};

}  // namespace

std::unique_ptr<RandomAccessFile> open_checkpoint_file(const StorageBackend& storage, const std::string& path) {
  try {
    return storage.open(path);
  } catch (const NotFoundError&) {
    throw NotFoundError("Checkpoint file not found: " + path);
  }
}

ByteSource source_of(const RandomAccessFile& file, const std::string& path) {
  const auto ahead = std::make_shared<ReadAhead>(file);
  return {path, file.size(),
          [ahead](std::uint64_t offset, void* destination, std::size_t n_bytes) {
            ahead->read(offset, destination, n_bytes);
          },
          [&file](std::uint64_t offset, std::size_t n_bytes) { file.prefetch(offset, n_bytes); }};
}

ByteSource source_of(const RandomAccessFile& file, const std::string& path, IoEngine& engine, bool check_contents) {
  static_assert(ScanSource::kRoomBytes == IoEngine::kRoomBytes);
  ByteSource source = source_of(file, path);
  const auto read_at = [&file](std::uint64_t offset, void* destination, std::size_t n_bytes) {
    file.read_at(offset, destination, n_bytes);
  };
  const auto run = [&engine](std::size_t n_parts, const IoEngine::Part& part) { engine.run(n_parts, part); };
  source.scan = std::make_shared<ScanSource>(ScanSource{read_at, run, check_contents});
  return source;
}

void commit(WritableFile& file) {
  signal_written();
  file.commit();
}

void refuse_map_location_of_state(const LoadOptions& options, const std::string& path) {
  if (options.state == nullptr || options.map_location.is_none()) return;
  throw TypeError("load '" + path +
                  "': with `state`, tensors go to the devices of the live ones; `map_location` says nothing then");
}

void refuse_storage_options(const std::optional<Dict>& storage_options, const std::type_info& plugin) {
  if (!storage_options) return;
  throw TypeError(
      "`Trainer.save_checkpoint(..., storage_options=...)` with `storage_options` arg is not supported for `" +
      type_name(plugin) +
      "`. Please implement your custom `CheckpointIO` to define how you'd like to use `storage_options`.");
}

}  // namespace ckptio::detail
