// SPDX-License-Identifier: Apache-2.0
#include "engine/io_engine.h"

#include <algorithm>
#include <mutex>
#include <thread>

#include "engine/part_runner.h"
#include "engine/plan_reader.h"
#include "engine/plan_writer.h"

namespace ckptio::detail {

namespace {

// Page cache and memory are busy with a few threads; more only wait for the file's lock, and take processors away from
// the training.
constexpr std::size_t kMaxDefaultThreads = 4;

}  // namespace

struct IoEngine::Impl {
  explicit Impl(std::size_t n_threads)
      : runner(n_threads, kPartBytes),
        waiting_runner(n_threads == 1 ? 1 : std::max(n_threads, kDirectThreads), kDirectBufferBytes) {}
  std::mutex mutex;  // one call at a time
  PartRunner runner;
  PartRunner waiting_runner;  // of what goes past the system's caches

  template <class Pass>
  void run(Pass pass) {
    pass.run(pass.waits_for_disk() ? waiting_runner : runner);
  }
};

std::size_t default_io_threads() {
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kMaxDefaultThreads);
}

IoEngine::IoEngine(IoEngineOptions options)
    : impl_(std::make_unique<Impl>(options.n_threads == 0 ? default_io_threads() : options.n_threads)) {}

IoEngine::~IoEngine() = default;

void IoEngine::write(WritableFile& file, const WritePlan& plan) {
  const std::scoped_lock lock(impl_->mutex);
  impl_->run(PlanWriter(file, plan));
}

void IoEngine::read(const RandomAccessFile& file, const ReadPlan& plan) {
  const std::scoped_lock lock(impl_->mutex);
  impl_->run(PlanReader(file, plan));
}

void IoEngine::run(std::size_t n_parts, const Part& part) {
  static_assert(kRoomBytes <= kPartBytes);
  const std::scoped_lock lock(impl_->mutex);
  impl_->runner.run(n_parts, [&](std::size_t index, PartBuffer& buffer) { part(index, buffer.data()); });
}

void IoEngine::release() {
  const std::scoped_lock lock(impl_->mutex);
  impl_->runner.release();
  impl_->waiting_runner.release();
}

std::size_t IoEngine::n_threads() const noexcept { return impl_->runner.n_threads(); }

}  // namespace ckptio::detail
