// SPDX-License-Identifier: Apache-2.0
// StagingMemory: where a save keeps its copy of the tensors. Buffers are kept and used again, because what a copy costs
// is the page faults of fresh memory: writing to it is several times slower than writing to memory that is there.
//
// Threads: StagingMemory from any; a buffer as any memory.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "async/worker_pool.h"

namespace ckptio::detail {

class StagingBuffer {
 public:
  StagingBuffer() = default;
  StagingBuffer(const StagingBuffer&) = delete;
  StagingBuffer& operator=(const StagingBuffer&) = delete;
  virtual ~StagingBuffer() = default;

  char* data() const noexcept { return data_; }
  std::size_t capacity() const noexcept { return capacity_; }
  // Makes the capacity at least `n_bytes`; what was in it may be lost. IoError where the system has no memory.
  virtual void grow(std::size_t n_bytes) = 0;

 protected:
  char* data_ = nullptr;
  std::size_t capacity_ = 0;
};

// Mapped from the system, so no page is shared with anything else.
class MappedBuffer final : public StagingBuffer {
 public:
  MappedBuffer() = default;
  ~MappedBuffer() override;
  void grow(std::size_t n_bytes) override;
};

inline std::unique_ptr<StagingBuffer> make_mapped_buffer() { return std::make_unique<MappedBuffer>(); }

class StagingMemory : public std::enable_shared_from_this<StagingMemory> {
 public:
  using MakeBuffer = std::function<std::unique_ptr<StagingBuffer>()>;

  // At most `max_kept` buffers that nobody uses are kept.
  explicit StagingMemory(std::size_t max_kept, MakeBuffer make_buffer = make_mapped_buffer);

  // A buffer of at least `n_bytes`, one that is kept if there is any. It comes back when the last copy of the pointer
  // goes, on whatever thread, so that whoever still refers to a snapshot never sees it change. IoError as grow().
  std::shared_ptr<StagingBuffer> acquire(std::size_t n_bytes);
  // Frees the buffers that nobody uses.
  void free_kept();

  std::size_t n_kept() const;

 private:
  std::unique_ptr<StagingBuffer> take(std::size_t n_bytes);
  void give_back(std::unique_ptr<StagingBuffer> buffer);

  const std::size_t max_kept_;
  const MakeBuffer make_buffer_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<StagingBuffer>> kept_;
};

// Some memory to be copied to `offset` of a buffer.
struct StagingCopy {
  const void* source = nullptr;
  std::size_t n_bytes = 0;
  std::size_t offset = 0;
};

// Lays out one more copy behind `end`, aligned for every dtype and the processor's caches; returns the new end.
inline constexpr std::size_t kStagingAlignment = 64;
constexpr std::size_t align_staging(std::size_t end) {
  return (end + kStagingAlignment - 1) / kStagingAlignment * kStagingAlignment;
}

// Requires: offsets in ascending order, without overlap, within the buffer.
void copy_to(StagingBuffer& buffer, const std::vector<StagingCopy>& copies, WorkerPool& pool);

// Has the system give the first `n_bytes` of the buffer their memory now. Their contents are lost.
void prefault(StagingBuffer& buffer, std::size_t n_bytes, WorkerPool& pool);

}  // namespace ckptio::detail
