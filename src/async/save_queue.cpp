// SPDX-License-Identifier: Apache-2.0
#include "async/save_queue.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "async/exit_drain.h"
#include "ckptio/error.h"

namespace ckptio::detail {

namespace {

using Clock = std::chrono::steady_clock;
using Progress = std::shared_ptr<SaveProgress>;

thread_local const void* queue_of_this_thread = nullptr;  // of the threads that take the steps

std::string message_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return exception.what();
  } catch (...) {
    return "an exception of unknown type";
  }
}

std::string to_seconds(std::chrono::nanoseconds duration) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", std::chrono::duration<double>(duration).count());
  return text;
}

// wait_for() adds to the time that it is, and must not overflow.
std::chrono::nanoseconds bounded(std::chrono::nanoseconds timeout) {
  return std::min<std::chrono::nanoseconds>(timeout, std::chrono::hours(24 * 365));
}

}  // namespace

// Shared with what runs in the background, which may outlive the queue where a drain gave up.
struct SaveQueue::Core : public Drainable, public std::enable_shared_from_this<Core> {
  explicit Core(SaveQueueOptions given) : options(given) {}

  const SaveQueueOptions options;
  const pid_t process = ::getpid();
  TaskThread stager{"ckptio-stage"};
  TaskThread writer{"ckptio-write"};
  mutable std::mutex mutex;  // of what follows; a progress's own comes after it
  mutable std::condition_variable changed;
  std::vector<Progress> pending;
  std::deque<Progress> failed;  // of which nobody may have been told
  bool gave_up = false;

  bool is_fork() const { return ::getpid() != process; }
  bool has_given_up() const {
    const std::scoped_lock lock(mutex);
    return gave_up;
  }

  // The oldest error that nobody was told of; from then on someone was. Requires: the mutex is held.
  std::exception_ptr take_error() {
    while (!failed.empty()) {
      const Progress progress = std::move(failed.front());
      failed.pop_front();
      if (std::exception_ptr error = progress->take_error()) return error;
    }
    return nullptr;
  }

  void remove(const Progress& progress) {
    {
      const std::scoped_lock lock(mutex);
      std::erase(pending, progress);
    }
    changed.notify_all();
  }

  // A future learns of the error first: one that throws it is then known to have.
  void end(const Progress& progress, const std::exception_ptr& error) {
    {
      const std::scoped_lock lock(mutex);
      if (error) {
        progress->fail(error);
        failed.push_back(progress);
      } else {
        progress->reach(SaveStage::Durable);
      }
      std::erase(pending, progress);
    }
    changed.notify_all();
  }

  // Takes a step; false if it failed.
  template <class Step>
  bool take(const Progress& progress, std::unique_ptr<SaveSteps>& steps, Step step) {
    queue_of_this_thread = this;
    std::exception_ptr error;
    try {
      step(*steps);
      return true;
    } catch (...) {
      error = std::current_exception();
    }
    steps.reset();
    end(progress, error);
    return false;
  }

  using SharedSteps = std::shared_ptr<std::unique_ptr<SaveSteps>>;  // std::function wants what can be copied

  void stage(const Progress& progress, const SharedSteps& steps, Clock::time_point begin) {
    if (!take(progress, *steps, [&](SaveSteps& each) { each.stage(*progress); })) return;
    progress->update_timing([&](SaveTiming& timing) { timing.staging = Clock::now() - begin; });
    progress->reach(SaveStage::Staged);
    if (!take(progress, *steps, [](SaveSteps& each) { each.settle(); })) return;
    post(writer, progress, steps, [this, progress, steps] { write(progress, steps); });
  }

  void write(const Progress& progress, const SharedSteps& steps) {
    if (!take(progress, *steps, [&](SaveSteps& each) { each.write(*progress); })) return;
    steps->reset();
    end(progress, nullptr);
  }

  // As the thread's post(); where that fails the save does.
  void post(TaskThread& thread, const Progress& progress, const SharedSteps& steps, std::function<void()> task) {
    take(progress, *steps,
         [&](SaveSteps&) { thread.post([self = shared_from_this(), task = std::move(task)] { task(); }); });
  }

  void print(const std::string& text) const { std::fprintf(stderr, "ckptio: %s\n", text.c_str()); }

  void drain() noexcept override {
    try {
      if (is_fork() || queue_of_this_thread == this) return;
      std::unique_lock lock(mutex);
      if (gave_up) return;
      gave_up = !changed.wait_for(lock, bounded(options.drain_timeout), [this] { return pending.empty(); });
      for (const Progress& progress : pending) {
        print("gave up after " + to_seconds(options.drain_timeout) + " (drain_timeout): the save of '" +
              progress->path() + "' was still going on as it had to end, and may be missing");
      }
      for (const Progress& progress : failed) {
        const std::string action = progress->path().empty() ? "the teardown" : "the save of '" + progress->path() + "'";
        if (const auto error = progress->take_error()) print(action + " failed: " + message_of(error));
      }
      failed.clear();
    } catch (...) {  // no memory for a message
    }
  }
};

SaveQueue::SaveQueue(SaveQueueOptions options) {
  if (options.max_pending == 0) throw ValueError("max_pending is 0: at least one save must be allowed to be pending");
  if (options.drain_timeout < options.drain_timeout.zero()) throw ValueError("drain_timeout is negative");
  core_ = std::make_shared<Core>(options);
}

SaveQueue::~SaveQueue() {
  if (core_->is_fork()) {
    static_cast<void>(new std::shared_ptr<Core>(core_));  // its threads and locks are the parent's: touch nothing
    return;
  }
  core_->drain();
  if (core_->has_given_up()) {
    core_->stager.abandon();
    core_->writer.abandon();
  } else {
    core_->stager.stop();
    core_->writer.stop();
  }
}

std::shared_ptr<SaveProgress> SaveQueue::add(const std::string& path,
                                             const std::function<std::unique_ptr<SaveSteps>(SaveProgress&)>& prepare) {
  const auto begin = Clock::now();
  const auto progress = std::make_shared<SaveProgress>(path);
  {
    std::unique_lock lock(core_->mutex);
    core_->changed.wait(lock, [this] { return core_->pending.size() < core_->options.max_pending; });
    if (const std::exception_ptr error = core_->take_error()) std::rethrow_exception(error);
    core_->pending.push_back(progress);
  }
  try {
    drain_at_exit(core_);
    const auto steps = std::make_shared<std::unique_ptr<SaveSteps>>(prepare(*progress));
    progress->update_timing([&](SaveTiming& timing) { timing.stalled = Clock::now() - begin; });
    core_->stager.post([core = core_, progress, steps, begin] { core->stage(progress, steps, begin); });
  } catch (...) {
    core_->remove(progress);
    throw;
  }
  return progress;
}

void SaveQueue::post(std::function<void()> task) { core_->stager.post(std::move(task)); }

void SaveQueue::wait() const {
  std::unique_lock lock(core_->mutex);
  core_->changed.wait(lock, [this] { return core_->pending.empty(); });
}

void SaveQueue::throw_error() {
  std::unique_lock lock(core_->mutex);
  const std::exception_ptr error = core_->take_error();
  lock.unlock();
  if (error) std::rethrow_exception(error);
}

void SaveQueue::keep_error(std::exception_ptr error) {
  const auto progress = std::make_shared<SaveProgress>("");
  progress->fail(std::move(error));
  const std::scoped_lock lock(core_->mutex);
  core_->failed.push_back(progress);
}

void SaveQueue::stop() {
  wait();
  core_->stager.stop();
  core_->writer.stop();
}

}  // namespace ckptio::detail
