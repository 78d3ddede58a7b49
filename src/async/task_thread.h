// SPDX-License-Identifier: Apache-2.0
// TaskThread: one thread that runs tasks in the order in which they were posted. It starts with the first task, so an
// object that is never used costs nothing, and one that was stopped can be used again.
//
// Threads: any may post; one at a time stops. Signals of the process are never delivered to it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace ckptio::detail {

// As std::thread(function), named for debuggers, with all signals blocked. IoError where the system gives no thread.
std::thread start_thread(const std::string& name, std::function<void()> function);

class TaskThread {
 public:
  // `name`: at most 15 characters, as Linux has it.
  explicit TaskThread(std::string name);
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;
  ~TaskThread();  // as stop()

  // Requires: the task throws nothing.
  void post(std::function<void()> task);
  // Returns when all that was posted has run and the thread has ended.
  void stop();
  // From now on nobody waits for the thread, which ends when the object is gone and all that was posted has run.
  void abandon();

 private:
  struct Tasks;

  const std::string name_;
  std::mutex mutex_;  // of what follows
  std::shared_ptr<Tasks> tasks_;
  std::thread thread_;
  bool is_abandoned_ = false;
};

}  // namespace ckptio::detail
