// SPDX-License-Identifier: Apache-2.0
// SaveProgress: the writing end of a SaveFuture. Whoever saves tells it how far it is, or why it failed.
// Threads: safe from any.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>

#include "ckptio/save_future.h"

namespace ckptio::detail {

class SaveProgress {
 public:
  explicit SaveProgress(std::string path) : path_(std::move(path)) {}
  SaveProgress(const SaveProgress&) = delete;
  SaveProgress& operator=(const SaveProgress&) = delete;

  const std::string& path() const noexcept { return path_; }

  // The stage and all before it are reached. Going back changes nothing.
  void reach(SaveStage stage);
  // No further stage will be reached.
  void fail(std::exception_ptr error);
  // Changes the timing under the lock.
  template <class Change>
  void update_timing(Change&& change) {
    const std::scoped_lock lock(mutex_);
    change(timing_);
  }

  // False where `timeout`, if there is one, passed first. Throws the save's error if it failed before the stage.
  bool wait(SaveStage stage, std::optional<std::chrono::nanoseconds> timeout);
  // The same without a timeout or a throw, and what it would have thrown does not count as thrown: false if it failed.
  bool wait_quietly(SaveStage stage);
  bool is_ready(SaveStage stage) const;
  SaveTiming timing() const;

  // The error, if the save failed and no wait() has thrown it yet; from then on it counts as thrown.
  std::exception_ptr take_error();

 private:
  // Waits, and counts the time as stalled; false where the timeout passed first.
  bool await(std::unique_lock<std::mutex>& lock, SaveStage stage, std::optional<std::chrono::nanoseconds> timeout);
  bool is_ready_locked(SaveStage stage) const { return error_ || (reached_ && *reached_ >= stage); }

  const std::string path_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<SaveStage> reached_;
  std::exception_ptr error_;
  bool error_was_thrown_ = false;
  SaveTiming timing_;
};

}  // namespace ckptio::detail
