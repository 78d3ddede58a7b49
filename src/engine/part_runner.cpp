// SPDX-License-Identifier: Apache-2.0
#include "engine/part_runner.h"

#include <atomic>
#include <cerrno>
#include <exception>
#include <string>
#include <utility>

#include "async/huge_pages.h"
#include "ckptio/error.h"

namespace ckptio::detail {

void PartRunner::run(std::size_t n_parts, const Part& part) {
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  std::mutex error_mutex;
  pool_.run(n_parts, [&](std::size_t index) {
    if (failed) return;
    try {
      PartBuffer buffer = take();
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
  kept_.clear();  // its room stays
}

PartBuffer PartRunner::take() {
  const std::scoped_lock lock(mutex_);
  if (kept_.empty()) return PartBuffer(part_bytes_);
  PartBuffer buffer = std::move(kept_.back());
  kept_.pop_back();
  return buffer;
}

void PartRunner::give_back(PartBuffer buffer) {
  const std::scoped_lock lock(mutex_);
  if (kept_.size() < n_threads()) kept_.push_back(std::move(buffer));
}

unsigned char* PartBuffer::data() {
  if (data_) return data_.get();
  const std::size_t n_pages = (n_bytes_ + kHugePageBytes - 1) / kHugePageBytes;
  data_.reset(static_cast<unsigned char*>(std::aligned_alloc(kHugePageBytes, n_pages * kHugePageBytes)));
  if (!data_) throw IoError("not enough memory for a buffer of " + std::to_string(n_bytes_) + " bytes", ENOMEM);
  ask_for_huge_pages(data_.get(), n_pages * kHugePageBytes);
  return data_.get();
}

}  // namespace ckptio::detail
