// SPDX-License-Identifier: Apache-2.0
// WorkStream: a stream of the stand-in accelerator, which does what it is given in order, on a thread of its own. Work
// that throws is a failing device: the next that waits for it is told, once.
// Threads: safe from any.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "async/task_thread.h"

namespace ckptio::test {

// How far a stream was once: an event of it that was recorded.
class Mark {
 public:
  void set(std::exception_ptr error) {
    {
      const std::scoped_lock lock(mutex_);
      is_set_ = true;
      error_ = std::move(error);
    }
    changed_.notify_all();
  }
  bool is_set() const {
    const std::scoped_lock lock(mutex_);
    return is_set_;
  }
  // Throws what the work before it threw.
  void wait() {
    wait_quietly();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }
  void wait_quietly() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_set_; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool is_set_ = false;
  std::exception_ptr error_;
};

class WorkStream {
 public:
  void enqueue(std::function<void()> work) {
    thread_.post([this, work = std::move(work)] {
      try {
        work();
      } catch (...) {
        error_ = std::current_exception();
      }
    });
  }
  std::shared_ptr<Mark> record() {
    auto mark = std::make_shared<Mark>();
    thread_.post([this, mark] { mark->set(std::exchange(error_, nullptr)); });
    return mark;
  }
  void wait_for(std::shared_ptr<Mark> mark) {
    enqueue([mark = std::move(mark)] { mark->wait_quietly(); });
  }
  void synchronize() { record()->wait(); }

 private:
  std::exception_ptr error_;  // its thread's
  detail::TaskThread thread_{"stand-in"};
};

}  // namespace ckptio::test
