// SPDX-License-Identifier: Apache-2.0
#include "async/task_thread.h"

#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <deque>
#include <system_error>
#include <utility>

#include "ckptio/error.h"

namespace ckptio::detail {

namespace {

// New threads inherit what is blocked.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

std::thread start_thread(const std::string& name, std::function<void()> function) {
  try {
    const BlockedSignals blocked;
    std::thread thread(std::move(function));
#ifdef __linux__
    ::pthread_setname_np(thread.native_handle(), name.c_str());
#endif
    return thread;
  } catch (const std::system_error& error) {
    throw IoError("cannot start the thread '" + name + "': " + error.what(), error.code().value());
  }
}

// Shared with the thread, which may outlive the object.
struct TaskThread::Tasks {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> waiting;
  bool last_was_posted = false;

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return !waiting.empty() || last_was_posted; });
      if (waiting.empty()) return;
      std::function<void()> task = std::move(waiting.front());
      waiting.pop_front();
      lock.unlock();
      task();
      task = nullptr;  // what it holds goes without the lock: it may post
      lock.lock();
    }
  }

  void end() {
    {
      const std::scoped_lock lock(mutex);
      last_was_posted = true;
    }
    changed.notify_all();
  }
};

TaskThread::TaskThread(std::string name) : name_(std::move(name)) {}

TaskThread::~TaskThread() { stop(); }

void TaskThread::post(std::function<void()> task) {
  const std::scoped_lock lock(mutex_);
  if (!tasks_) {
    auto tasks = std::make_shared<Tasks>();
    thread_ = start_thread(name_, [tasks] { tasks->run(); });
    tasks_ = std::move(tasks);
    if (is_abandoned_) thread_.detach();
  }
  {
    const std::scoped_lock tasks_lock(tasks_->mutex);
    tasks_->waiting.push_back(std::move(task));
  }
  tasks_->changed.notify_all();
}

void TaskThread::stop() {
  const std::scoped_lock lock(mutex_);
  if (!tasks_) return;
  tasks_->end();
  if (!is_abandoned_) thread_.join();
  tasks_.reset();
}

void TaskThread::abandon() {
  const std::scoped_lock lock(mutex_);
  is_abandoned_ = true;
  if (tasks_) thread_.detach();
}

}  // namespace ckptio::detail
