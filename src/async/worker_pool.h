// SPDX-License-Identifier: Apache-2.0
// WorkerPool: a few threads that share one piece of work. Our own, so that LibTorch's stay with the training.
//
// Threads: one at a time. In a process that was forked off, threads are started anew.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace ckptio::detail {

class WorkerPool {
 public:
  // `n_threads` with the one that calls run(): 1 starts none.
  explicit WorkerPool(std::size_t n_threads);
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  ~WorkerPool();  // as stop()

  // Calls part(0), ..., part(n_parts - 1), each once, on this thread and the others, and returns when all are done.
  // They begin in this order.
  // Requires: `part` throws nothing. IoError where a thread cannot be started, before the first call.
  void run(std::size_t n_parts, const std::function<void(std::size_t)>& part);
  // Ends the threads; run() starts them again.
  void stop();
  std::size_t n_threads() const noexcept { return n_threads_; }

 private:
  struct Work;
  void start();
  void leave_to_parent();

  const std::size_t n_threads_;
  int process_ = 0;  // that the threads are of
  std::unique_ptr<Work> work_;
  std::vector<std::thread> threads_;
};

}  // namespace ckptio::detail
