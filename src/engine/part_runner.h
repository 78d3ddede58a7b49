// SPDX-License-Identifier: Apache-2.0
// PartRunner: a WorkerPool for parts that may throw and need some memory each; and the sizes of the engine's work.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "async/worker_pool.h"

namespace ckptio::detail {

// A file is written in parts of this size, for one thread at a time, and read in such parts.
constexpr std::size_t kPartBytes = std::size_t{4} << 20;
// What goes past the system's caches, in smaller parts of more threads, which wait for the disk rather than work: it
// then always has some at hand. Measured on a virtual disk, 1 GiB: 2 threads with 4 MiB each 390 ms, 4 with 1 MiB 400,
// 8 with 1 MiB 360, 12 with 1 MiB 340, 16 with 512 KiB 335.
constexpr std::size_t kDirectPartBytes = std::size_t{1} << 20;
constexpr std::size_t kDirectThreads = 12;
// The largest of its blocks that are served: see direct_block_bytes() of files.
constexpr std::size_t kMaxBlockBytes = std::size_t{64} << 10;
// A part of these with the rest of its first and last block.
constexpr std::size_t kDirectBufferBytes = kDirectPartBytes + 2 * kMaxBlockBytes;
// What gets its CRC and goes to the kernel in one step: the second finds the bytes in the cache of the first.
constexpr std::size_t kChunkBytes = std::size_t{512} << 10;
// Smaller pieces are copied together, so that thousands of them cost a few calls; larger ones go from where they are.
constexpr std::size_t kSmallBytes = std::size_t{128} << 10;
// What is copied and gets its CRC at once: fits the first cache of the processor.
constexpr std::size_t kCopyBytes = std::size_t{16} << 10;

// Uninitialised memory for one part, on a multiple of kMaxBlockBytes. Taken from the system when it is first asked for,
// in whole huge pages: a disk takes 1 MiB of one such page at once, of scattered ones piece by piece.
class PartBuffer {
 public:
  PartBuffer() = default;
  explicit PartBuffer(std::size_t n_bytes) : n_bytes_(n_bytes) {}
  // IoError where there is none.
  unsigned char* data();
  std::size_t size() const noexcept { return n_bytes_; }

 private:
  struct Free {
    void operator()(unsigned char* data) const noexcept { std::free(data); }
  };
  std::size_t n_bytes_ = 0;
  std::unique_ptr<unsigned char[], Free> data_;
};

class PartRunner {
 public:
  using Part = std::function<void(std::size_t index, PartBuffer& buffer)>;

  // `part_bytes`: of each buffer.
  PartRunner(std::size_t n_threads, std::size_t part_bytes) : pool_(n_threads), part_bytes_(part_bytes) {
    kept_.reserve(n_threads);  // so that giving back cannot fail
  }

  // Calls part(0..n_parts-1), which begin in this order. After an exception no part is begun; the first one is thrown
  // again when those under way have ended.
  void run(std::size_t n_parts, const Part& part);
  void release();
  std::size_t n_threads() const noexcept { return pool_.n_threads(); }

 private:
  PartBuffer take();
  void give_back(PartBuffer buffer);

  WorkerPool pool_;
  const std::size_t part_bytes_;
  std::mutex mutex_;  // of the buffers
  std::vector<PartBuffer> kept_;
};

}  // namespace ckptio::detail
