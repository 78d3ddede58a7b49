// SPDX-License-Identifier: Apache-2.0
// PartRunner: a WorkerPool for parts that may throw and need some memory each; and the sizes of the engine's work.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "async/worker_pool.h"

namespace ckptio::detail {

// A file is written in parts of this size, for one thread at a time, and read in such parts.
constexpr std::size_t kPartBytes = std::size_t{4} << 20;
// What gets its CRC and goes to the kernel in one step: the second finds the bytes in the cache of the first.
constexpr std::size_t kChunkBytes = std::size_t{512} << 10;
// Smaller pieces are copied together, so that thousands of them cost a few calls; larger ones go from where they are.
constexpr std::size_t kSmallBytes = std::size_t{128} << 10;

class PartRunner {
 public:
  // Uninitialised memory of kPartBytes.
  using Buffer = std::unique_ptr<unsigned char[]>;
  // The buffer may be null until the part calls need().
  using Part = std::function<void(std::size_t index, Buffer& buffer)>;

  explicit PartRunner(std::size_t n_threads) : pool_(n_threads) {}

  // Calls part(0..n_parts-1) in about this order. After an exception no part is begun; the first one is thrown again
  // when those under way have ended.
  void run(std::size_t n_parts, const Part& part);
  void release();
  std::size_t n_threads() const noexcept { return pool_.n_threads(); }

 private:
  Buffer take();
  void give_back(Buffer buffer);

  WorkerPool pool_;
  std::mutex mutex_;  // of the buffers
  std::vector<Buffer> kept_;
};

// Makes the buffer where there is none yet. IoError where there is no memory.
unsigned char* need(PartRunner::Buffer& buffer);

}  // namespace ckptio::detail
