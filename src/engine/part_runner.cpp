// SPDX-License-Identifier: Apache-2.0
#include "engine/part_runner.h"

#include <atomic>
#include <cerrno>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "ckptio/error.h"

namespace ckptio::detail {

void PartRunner::run(std::size_t n_parts, const Part& part) {
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  std::mutex error_mutex;
  pool_.run(n_parts, [&](std::size_t index) {
    if (failed) return;
    try {
      Buffer buffer = take();
      part(index, buffer);
      give_back(std::move(buffer));
    } catch (...) {
      const std::scoped_lock lock(error_mutex);
      if (!failed.exchange(true)) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

void PartRunner::release() {
  pool_.stop();
  const std::scoped_lock lock(mutex_);
  kept_.clear();
}

PartRunner::Buffer PartRunner::take() {
  const std::scoped_lock lock(mutex_);
  if (kept_.empty()) return nullptr;
  Buffer buffer = std::move(kept_.back());
  kept_.pop_back();
  return buffer;
}

void PartRunner::give_back(Buffer buffer) {
  if (!buffer) return;
  const std::scoped_lock lock(mutex_);
  if (kept_.size() < n_threads()) kept_.push_back(std::move(buffer));
}

unsigned char* need(PartRunner::Buffer& buffer) {
  if (!buffer) buffer.reset(new (std::nothrow) unsigned char[kPartBytes]);
  if (!buffer) throw IoError("not enough memory for a buffer of " + std::to_string(kPartBytes) + " bytes", ENOMEM);
  return buffer.get();
}

}  // namespace ckptio::detail
