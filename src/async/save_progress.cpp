// SPDX-License-Identifier: Apache-2.0
#include "async/save_progress.h"

#include <algorithm>
#include <utility>

namespace ckptio {
namespace detail {

void SaveProgress::reach(SaveStage stage) {
  {
    const std::scoped_lock lock(mutex_);
    reached_ = reached_ ? std::max(*reached_, stage) : stage;
  }
  changed_.notify_all();
}

void SaveProgress::fail(std::exception_ptr error) {
  {
    const std::scoped_lock lock(mutex_);
    error_ = std::move(error);
  }
  changed_.notify_all();
}

bool SaveProgress::await(std::unique_lock<std::mutex>& lock, SaveStage stage,
                         std::optional<std::chrono::nanoseconds> timeout) {
  const auto ready = [&] { return is_ready_locked(stage); };
  if (ready()) return true;
  const auto begin = std::chrono::steady_clock::now();
  if (!timeout) {
    changed_.wait(lock, ready);
  } else {
    changed_.wait_for(lock, *timeout, ready);
  }
  timing_.stalled += std::chrono::steady_clock::now() - begin;
  return ready();
}

bool SaveProgress::wait(SaveStage stage, std::optional<std::chrono::nanoseconds> timeout) {
  std::unique_lock lock(mutex_);
  if (!await(lock, stage, timeout)) return false;
  if (reached_ && *reached_ >= stage) return true;
  error_was_thrown_ = true;
  const std::exception_ptr error = error_;
  lock.unlock();
  std::rethrow_exception(error);
}

bool SaveProgress::wait_quietly(SaveStage stage) {
  std::unique_lock lock(mutex_);
  await(lock, stage, std::nullopt);
  return reached_ && *reached_ >= stage;
}

bool SaveProgress::is_ready(SaveStage stage) const {
  const std::scoped_lock lock(mutex_);
  return is_ready_locked(stage);
}

SaveTiming SaveProgress::timing() const {
  const std::scoped_lock lock(mutex_);
  return timing_;
}

std::exception_ptr SaveProgress::take_error() {
  const std::scoped_lock lock(mutex_);
  if (std::exchange(error_was_thrown_, true)) return nullptr;
  if (!error_) error_was_thrown_ = false;
  return error_;
}

}  // namespace detail

namespace {

std::shared_ptr<detail::SaveProgress> finished() {
  auto progress = std::make_shared<detail::SaveProgress>("");
  progress->reach(SaveStage::Durable);
  return progress;
}

}  // namespace

SaveFuture::SaveFuture() : SaveFuture(finished()) {}

SaveFuture::SaveFuture(std::shared_ptr<detail::SaveProgress> progress) : progress_(std::move(progress)) {}

const std::string& SaveFuture::path() const noexcept { return progress_->path(); }

void SaveFuture::wait(SaveStage stage) const { progress_->wait(stage, std::nullopt); }

bool SaveFuture::wait_for(std::chrono::nanoseconds timeout, SaveStage stage) const {
  return progress_->wait(stage, timeout);
}

bool SaveFuture::is_ready(SaveStage stage) const noexcept { return progress_->is_ready(stage); }

SaveTiming SaveFuture::timing() const { return progress_->timing(); }

}  // namespace ckptio
