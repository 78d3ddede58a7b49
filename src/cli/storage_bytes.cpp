// SPDX-License-Identifier: Apache-2.0
#include "cli/storage_bytes.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "ckptio/error.h"

namespace ckptio::cli {
namespace {

// A window is a page of the system's, so that a column of a matrix with up to kPages rows is read once.
constexpr std::size_t kPageBytes = 4096, kPages = 16384;

// Pieces shorter than this go through the pages.
constexpr std::size_t kScatteredBytes = 1024;

[[noreturn]] void throw_spool_error(const char* action, int error) {
  throw IoError(std::string("cannot ") + action + " a temporary file: " + std::strerror(error), error);
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
    if (record.is_stored && !record.swap_bytes) {
      archive_.verify_storage(index);
    } else {
      opened.spool = std::make_unique<Spool>();
      archive_.read_storage_pieces(index, [&](const void* data, std::size_t n_bytes) {
        opened.spool->append(static_cast<const unsigned char*>(data), n_bytes);
      });
    }
    if (on_read_) on_read_(record.n_bytes);
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
