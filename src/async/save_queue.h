// SPDX-License-Identifier: Apache-2.0
// SaveQueue: saves that go on in the background, in the order in which they came, each in two steps: staging, which
// copies what is saved, and writing. Each step has a thread of its own, so that one save is staged while another is
// written. A save is pending from its add() until it is durable or has failed.
//
// What goes wrong is kept until someone is told, once: by the save's future, or by throw_error(), which whoever owns
// the queue calls first in each of its functions, or by a line on stderr when the queue is destroyed or the process
// ends. Both finish what is pending, for at most `drain_timeout`. In a process that was forked off nothing is pending.
//
// Threads: safe from any, but one at a time stops. The steps must not call the queue.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "async/save_progress.h"
#include "async/task_thread.h"

namespace ckptio::detail {

struct SaveQueueOptions {
  std::size_t max_pending = 1;
  std::chrono::nanoseconds drain_timeout = std::chrono::minutes(10);
};

// What a save does in the background. Destroyed before the save counts as done.
class SaveSteps {
 public:
  virtual ~SaveSteps() = default;
  virtual void stage(SaveProgress& progress) = 0;
  // The rest of staging, for which nobody waits: the save is Staged by now.
  virtual void settle() {}
  // Not called if one of those threw. The queue tells `progress` that the save is Durable when this returns.
  virtual void write(SaveProgress& progress) = 0;
};

class SaveQueue {
 public:
  // ValueError where max_pending is 0 or the timeout negative.
  explicit SaveQueue(SaveQueueOptions options);
  SaveQueue(const SaveQueue&) = delete;
  SaveQueue& operator=(const SaveQueue&) = delete;
  ~SaveQueue();

  // Waits until fewer than max_pending are pending, throws what throw_error() would, and only then calls `prepare`, on
  // this thread; what that throws goes on, and nothing is pending then.
  std::shared_ptr<SaveProgress> add(const std::string& path,
                                    const std::function<std::unique_ptr<SaveSteps>(SaveProgress&)>& prepare);

  // Runs `task` before the staging of all that is added later. It throws nothing.
  void post(std::function<void()> task);

  // Returns when nothing is pending.
  void wait() const;
  // Throws the oldest error that nobody was told of.
  void throw_error();
  // Makes `error`, of a teardown, one that throw_error() will throw.
  void keep_error(std::exception_ptr error);
  // Returns when nothing is pending and the threads have ended; the next add() starts them again.
  void stop();

 private:
  struct Core;
  std::shared_ptr<Core> core_;
};

}  // namespace ckptio::detail
