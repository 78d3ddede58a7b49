// SPDX-License-Identifier: Apache-2.0
#include "cli/storage_bytes.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "ckptio/error.h"
#include "codec/inflate.h"

namespace ckptio::cli {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;

// A window is a page of the system's, so that a column of a matrix with up to kPages rows is read once.
constexpr std::size_t kPageBytes = 4096, kPages = 16384;

// Pieces shorter than this go through the pages.
constexpr std::size_t kScatteredBytes = 1024;

[[noreturn]] void throw_spool_error(const char* action, int error) {
  throw IoError(std::string("cannot ") + action + " a temporary file: " + std::strerror(error), error);
}

void swap_items(unsigned char* bytes, std::size_t n_bytes, std::size_t swap_size) {
  if (swap_size < 2) return;
  for (std::size_t i = 0; i + swap_size <= n_bytes; i += swap_size) std::reverse(bytes + i, bytes + i + swap_size);
}

}  // namespace

// A file without a name.
struct StorageBytes::Spool {
  int file = -1;

  Spool() {
    const char* folder = ::getenv("TMPDIR");
    std::string name = std::string(folder == nullptr ? "/tmp" : folder) + "/ckptio-XXXXXX";
    file = ::mkstemp(name.data());
    if (file < 0) throw_spool_error("make", errno);
    ::unlink(name.c_str());
  }
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;
  ~Spool() { ::close(file); }

  void append(const unsigned char* data, std::size_t n_bytes) {
    while (n_bytes > 0) {
      const ssize_t n_now = ::write(file, data, n_bytes);
      if (n_now < 0 && errno == EINTR) continue;
      if (n_now <= 0) throw_spool_error("write", errno);
      data += n_now, n_bytes -= static_cast<std::size_t>(n_now);
    }
  }

  void read(std::uint64_t offset, unsigned char* destination, std::size_t n_bytes) const {
    while (n_bytes > 0) {
      const ssize_t n_now = ::pread(file, destination, n_bytes, static_cast<off_t>(offset));
      if (n_now < 0 && errno == EINTR) continue;
      if (n_now <= 0) throw_spool_error("read", n_now == 0 ? EIO : errno);
      offset += static_cast<std::uint64_t>(n_now);
      destination += n_now, n_bytes -= static_cast<std::size_t>(n_now);
    }
  }
};

namespace {

// Calls `use(bytes, n)` for the storage as it stands in the file, decompressed.
template <typename Use>
void for_each_chunk(const detail::Archive& archive, const detail::StorageRecord& record, Use use) {
  std::vector<unsigned char> chunk;
  std::uint64_t done = 0;
  std::uint64_t n_in_file = record.n_bytes;
  if (!record.is_stored) n_in_file = archive.zip()->records()[static_cast<std::size_t>(record.zip_record)].compressed_size;
  const auto next = [&] {
    chunk.resize(std::min<std::uint64_t>(kChunkBytes, n_in_file - done));
    if (!chunk.empty()) archive.source().read_at(record.data_offset + done, chunk.data(), chunk.size());
    done += chunk.size();
  };
  if (record.is_stored) {
    for (next(); !chunk.empty(); next()) use(chunk.data(), chunk.size());
    return;
  }
  const auto input = [&]() -> detail::InputPiece { return next(), detail::InputPiece{chunk.data(), chunk.size()}; };
  const auto result = detail::inflate_stream(input, use, record.n_bytes);
  if (result != detail::InflateResult::ok) {
    throw CorruptError("cannot read '" + archive.source().name + "': record " + record.name + ": " +
                       detail::describe(result));
  }
}

}  // namespace

StorageBytes::StorageBytes(const detail::Archive& archive, std::function<void(std::uint64_t)> on_read)
    : archive_(archive), on_read_(std::move(on_read)) {}

StorageBytes::~StorageBytes() = default;

void StorageBytes::hold(std::size_t index, Storage& storage) {
  const std::uint64_t n_bytes = archive_.storages()[index].n_bytes;
  while (n_held_bytes_ + n_bytes > kCacheBytes && !uses_.empty()) {
    const std::size_t oldest = uses_.back();
    n_held_bytes_ -= storages_[oldest].bytes.size();
    uses_.pop_back();
    storages_.erase(oldest);
  }
  storage.bytes.resize(n_bytes);
  archive_.read_storage(index, storage.bytes.data());
  storage.is_held = true;
  n_held_bytes_ += n_bytes;
  uses_.push_front(index);
  storage.use = uses_.begin();
  if (on_read_) on_read_(n_bytes);
}

StorageBytes::Storage& StorageBytes::open(std::size_t index) {
  const auto found = storages_.find(index);
  if (found != storages_.end()) {
    if (found->second.is_held) uses_.splice(uses_.begin(), uses_, found->second.use);
    return found->second;
  }
  const detail::StorageRecord& record = archive_.storages()[index];
  Storage opened;
  if (record.n_bytes <= kHeldBytes) {
    hold(index, opened);
  } else {
    archive_.verify_storage(index);
    if (on_read_) on_read_(record.n_bytes);
    if (!record.is_stored || record.swap_bytes) {
      opened.spool = std::make_unique<Spool>();
      const std::size_t swap_size = detail::dtype_info(archive_.graph().storages[index].dtype).swap_size;
      std::vector<unsigned char> piece;  // chunks of deflated data end anywhere: whole items alone can be swapped
      for_each_chunk(archive_, record, [&](const unsigned char* data, std::size_t n_bytes) {
        piece.insert(piece.end(), data, data + n_bytes);
        const std::size_t n_whole = piece.size() - (swap_size > 1 ? piece.size() % swap_size : 0);
        if (record.swap_bytes) swap_items(piece.data(), n_whole, swap_size);
        opened.spool->append(piece.data(), n_whole);
        piece.erase(piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(n_whole));
      });
      opened.spool->append(piece.data(), piece.size());
    }
  }
  return storages_.emplace(index, std::move(opened)).first->second;
}

void StorageBytes::read_file(std::size_t index, Storage& opened, std::uint64_t offset, void* destination,
                             std::size_t n_bytes) {
  if (opened.spool) {
    opened.spool->read(offset, static_cast<unsigned char*>(destination), n_bytes);
  } else {
    archive_.source().read_at(archive_.storages()[index].data_offset + offset, destination, n_bytes);
  }
}

void StorageBytes::read_paged(std::size_t index, Storage& opened, std::uint64_t offset, unsigned char* destination,
                              std::size_t n_bytes) {
  constexpr std::uint64_t kNone = ~std::uint64_t{0};
  if (pages_.empty() || paged_storage_ != index) {
    pages_.resize(kPages * kPageBytes);
    page_of_.assign(kPages, kNone);
    paged_storage_ = index;
  }
  const std::uint64_t size = archive_.storages()[index].n_bytes;
  while (n_bytes > 0) {
    const std::uint64_t page = offset / kPageBytes, begin = page * kPageBytes;
    // Rows are often a power of two long: without the shifts all elements of a column would want one place.
    const std::size_t place = (page ^ page >> 14 ^ page >> 7) % kPages;
    unsigned char* const bytes = &pages_[place * kPageBytes];
    if (page_of_[place] != page) {
      page_of_[place] = kNone;  // should the reading throw
      read_file(index, opened, begin, bytes, std::min<std::uint64_t>(kPageBytes, size - begin));
      page_of_[place] = page;
    }
    const std::size_t n_now = std::min<std::uint64_t>(n_bytes, begin + kPageBytes - offset);
    std::memcpy(destination, bytes + (offset - begin), n_now);
    offset += n_now, destination += n_now, n_bytes -= n_now;
  }
}

void StorageBytes::read(std::size_t index, std::uint64_t offset, void* destination, std::size_t n_bytes) {
  if (n_bytes == 0) return;
  Storage& opened = open(index);
  if (opened.is_held) {
    std::memcpy(destination, opened.bytes.data() + offset, n_bytes);
  } else if (n_bytes < kScatteredBytes) {
    read_paged(index, opened, offset, static_cast<unsigned char*>(destination), n_bytes);
  } else {
    read_file(index, opened, offset, destination, n_bytes);
  }
}

const unsigned char* StorageBytes::held(std::size_t index) {
  Storage& opened = open(index);
  return opened.is_held ? opened.bytes.data() : nullptr;
}

}  // namespace ckptio::cli
