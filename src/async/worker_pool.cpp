// SPDX-License-Identifier: Apache-2.0
#include "async/worker_pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "async/task_thread.h"

namespace ckptio::detail {

struct WorkerPool::Work {
  std::mutex mutex;
  std::condition_variable begun, done;
  std::size_t round = 0;                                   // counts the calls of run()
  std::size_t n_working = 0;                               // threads that help in this round
  bool is_last = false;                                    // no further round follows
  const std::function<void(std::size_t)>* part = nullptr;  // of this round; null: it is over, or nearly so
  std::size_t n_parts = 0;
  std::atomic<std::size_t> next{0};

  void do_parts(const std::function<void(std::size_t)>& of_round) {
    while (true) {
      const std::size_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= n_parts) return;
      of_round(index);
    }
  }

  void help(std::size_t seen) {
    while (true) {
      const std::function<void(std::size_t)>* of_round = nullptr;
      {
        std::unique_lock lock(mutex);
        begun.wait(lock, [&] { return is_last || (part != nullptr && round != seen); });
        if (is_last) return;
        seen = round;
        of_round = part;
        ++n_working;
      }
      do_parts(*of_round);
      const std::scoped_lock lock(mutex);
      if (--n_working == 0) done.notify_one();
    }
  }
};

WorkerPool::WorkerPool(std::size_t n_threads)
    : n_threads_(std::max<std::size_t>(n_threads, 1)), work_(std::make_unique<Work>()) {}

WorkerPool::~WorkerPool() { stop(); }

// A child process that came out of a fork() has copies of the parent's threads' handles and no such threads: they can
// be neither joined nor destroyed.
void WorkerPool::leave_to_parent() {
  if (threads_.empty() || process_ == ::getpid()) return;
  static_cast<void>(new std::vector<std::thread>(std::move(threads_)));
  threads_.clear();
  static_cast<void>(work_.release());
  work_ = std::make_unique<Work>();
}

void WorkerPool::start() {
  process_ = ::getpid();
  while (threads_.size() + 1 < n_threads_) {
    threads_.push_back(start_thread("ckptio-copy", [work = work_.get(), seen = work_->round] { work->help(seen); }));
  }
}

void WorkerPool::run(std::size_t n_parts, const std::function<void(std::size_t)>& part) {
  if (n_parts <= 1 || n_threads_ == 1) {
    for (std::size_t i = 0; i < n_parts; ++i) part(i);
    return;
  }
  leave_to_parent();
  start();
  {
    const std::scoped_lock lock(work_->mutex);
    work_->part = &part;
    work_->n_parts = n_parts;
    work_->next = 0;
    ++work_->round;
  }
  work_->begun.notify_all();
  work_->do_parts(part);
  std::unique_lock lock(work_->mutex);
  work_->part = nullptr;  // a thread that has not woken up by now is not waited for
  work_->done.wait(lock, [&] { return work_->n_working == 0; });
}

void WorkerPool::stop() {
  leave_to_parent();
  {
    const std::scoped_lock lock(work_->mutex);
    work_->is_last = true;
  }
  work_->begun.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  work_ = std::make_unique<Work>();
}

}  // namespace ckptio::detail
