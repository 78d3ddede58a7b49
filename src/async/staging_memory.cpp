// SPDX-License-Identifier: Apache-2.0
#include "async/staging_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "async/huge_pages.h"
#include "ckptio/error.h"

namespace ckptio::detail {

namespace {

constexpr std::size_t kPageBytes = 4096;                  // the smallest there are
constexpr std::size_t kPartBytes = std::size_t{4} << 20;  // of a copy, for one thread at a time
constexpr std::size_t kMaxBytes = std::size_t{1} << 62;   // so that rounding up cannot overflow

[[noreturn]] void throw_no_memory(std::size_t n_bytes, int error_number) {
  throw IoError("cannot get " + std::to_string(n_bytes) +
                    " bytes of memory to stage a checkpoint in: " + std::generic_category().message(error_number),
                error_number);
}

}  // namespace

MappedBuffer::~MappedBuffer() {
  if (data_ != nullptr) ::munmap(data_, capacity_);
}

void MappedBuffer::grow(std::size_t n_bytes) {
  if (n_bytes <= capacity_) return;
  if (n_bytes > kMaxBytes) throw_no_memory(n_bytes, ENOMEM);
  const std::size_t unit = n_bytes < kHugePageBytes ? kPageBytes : kHugePageBytes;
  const std::size_t capacity = (n_bytes + unit - 1) / unit * unit;
#ifdef __linux__
  if (data_ != nullptr) {  // the pages there are stay
    void* moved = ::mremap(data_, capacity_, capacity, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) throw_no_memory(n_bytes, errno);
    data_ = static_cast<char*>(moved);
    capacity_ = capacity;
  }
#else
  if (data_ != nullptr) ::munmap(data_, capacity_);
  data_ = nullptr;
  capacity_ = 0;
#endif
  if (data_ == nullptr) {
    void* mapped = ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw_no_memory(n_bytes, errno);
    data_ = static_cast<char*>(mapped);
    capacity_ = capacity;
  }
  ask_for_huge_pages(data_, capacity_);
}

StagingMemory::StagingMemory(std::size_t max_kept, MakeBuffer make_buffer)
    : max_kept_(max_kept), make_buffer_(std::move(make_buffer)) {
  kept_.reserve(max_kept);
}

std::shared_ptr<StagingBuffer> StagingMemory::acquire(std::size_t n_bytes) {
  std::unique_ptr<StagingBuffer> buffer = take(n_bytes);
  if (!buffer) buffer = make_buffer_();
  std::shared_ptr<StagingBuffer> shared(buffer.release(), [home = weak_from_this()](StagingBuffer* used) {
    std::unique_ptr<StagingBuffer> owned(used);
    if (const auto memory = home.lock()) memory->give_back(std::move(owned));
  });
  shared->grow(n_bytes);
  return shared;
}

// The smallest that is large enough, else the largest.
std::unique_ptr<StagingBuffer> StagingMemory::take(std::size_t n_bytes) {
  const std::scoped_lock lock(mutex_);
  if (kept_.empty()) return nullptr;
  const auto is_better = [n_bytes](const auto& a, const auto& b) {
    const bool a_fits = a->capacity() >= n_bytes, b_fits = b->capacity() >= n_bytes;
    if (a_fits != b_fits) return a_fits;
    return a_fits ? a->capacity() < b->capacity() : a->capacity() > b->capacity();
  };
  const auto best = std::min_element(kept_.begin(), kept_.end(), is_better);
  std::unique_ptr<StagingBuffer> buffer = std::move(*best);
  kept_.erase(best);
  return buffer;
}

void StagingMemory::give_back(std::unique_ptr<StagingBuffer> buffer) {
  const std::scoped_lock lock(mutex_);
  if (kept_.size() < max_kept_) kept_.push_back(std::move(buffer));
}

void StagingMemory::free_kept() {
  const std::scoped_lock lock(mutex_);
  kept_.clear();
}

std::size_t StagingMemory::n_kept() const {
  const std::scoped_lock lock(mutex_);
  return kept_.size();
}

void copy_to(StagingBuffer& buffer, const std::vector<StagingCopy>& copies, WorkerPool& pool) {
  if (copies.empty()) return;
  const std::size_t end = copies.back().offset + copies.back().n_bytes;
  pool.run((end + kPartBytes - 1) / kPartBytes, [&](std::size_t part) {
    const std::size_t part_begin = part * kPartBytes, part_end = std::min(end, part_begin + kPartBytes);
    auto copy = std::partition_point(copies.begin(), copies.end(), [part_begin](const StagingCopy& each) {
      return each.offset + each.n_bytes <= part_begin;
    });
    for (; copy != copies.end() && copy->offset < part_end; ++copy) {
      const std::size_t from = std::max(part_begin, copy->offset);
      const std::size_t to = std::min(part_end, copy->offset + copy->n_bytes);
      if (from >= to) continue;  // nothing to copy may have no address
      std::memcpy(buffer.data() + from, static_cast<const char*>(copy->source) + (from - copy->offset), to - from);
    }
  });
}

void prefault(StagingBuffer& buffer, std::size_t n_bytes, WorkerPool& pool) {
  const std::size_t end = std::min(n_bytes, buffer.capacity());
  pool.run((end + kPartBytes - 1) / kPartBytes, [&](std::size_t part) {
    const std::size_t part_end = std::min(end, (part + 1) * kPartBytes);
    for (std::size_t at = part * kPartBytes; at < part_end; at += kPageBytes) {
      static_cast<volatile char*>(buffer.data())[at] = 0;
    }
  });
}

}  // namespace ckptio::detail
