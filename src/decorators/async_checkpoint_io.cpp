// SPDX-License-Identifier: Apache-2.0
// A save, step by step: (1) the caller waits for room, and is told what went wrong before; (2) it copies containers and
// plain values, notes which tensors there are, and has accelerators begin to copy theirs into pinned memory of ours;
// (3) the staging thread copies the CPU's storages into memory of ours, and waits for the accelerators: Staged; (4) it
// puts them into the copied containers; (5) the writing thread hands those to the wrapped plugin: Written, Durable; (6)
// the memory comes back, and there is room for the next. Of a checkpoint that is handed over nothing is copied in (2),
// and the tensors are noted in (3).
#include "ckptio/decorators/async_checkpoint_io.h"

#include <ATen/DeviceAccelerator.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "async/save_queue.h"
#include "async/written_signal.h"
#include "decorators/pinned_buffer.h"
#include "decorators/snapshot.h"

namespace ckptio {

namespace {

using detail::SaveProgress;

constexpr std::size_t kMaxStagingThreads = 4;  // more gain nothing: a few cores saturate the memory

std::size_t n_threads(const AsyncCheckpointIOOptions& options) {
  if (options.n_staging_threads != 0) return options.n_staging_threads;
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kMaxStagingThreads);
}

// Used by the staging thread alone while it runs. Shared with the saves, which may outlive the plugin.
struct Staging {
  explicit Staging(const AsyncCheckpointIOOptions& options)
      : memory(std::make_shared<detail::StagingMemory>(options.max_pending)),
        pinned(std::make_shared<detail::StagingMemory>(options.max_pending,
                                                       [] { return std::make_unique<detail::PinnedBuffer>(); })),
        pool(n_threads(options)) {}
  const std::shared_ptr<detail::StagingMemory> memory;
  const std::shared_ptr<detail::StagingMemory> pinned;  // for what accelerators copy; used by the callers
  detail::WorkerPool pool;
};

class BackgroundSave : public detail::SaveSteps {
 public:
  BackgroundSave(std::shared_ptr<Staging> staging, std::shared_ptr<CheckpointIO> to, Checkpoint checkpoint,
                 const std::string& path, const std::optional<Dict>& storage_options)
      : staging_(std::move(staging)),
        to_(std::move(to)),
        snapshot_(std::move(checkpoint), path),
        path_(path),
        storage_options_(storage_options) {}

  void survey(SaveProgress& progress) {
    snapshot_.survey(*staging_->pinned);
    progress.update_timing([this](SaveTiming& timing) { timing.n_bytes = snapshot_.n_bytes(); });
    is_surveyed_ = true;
  }

  void stage(SaveProgress& progress) override {
    if (!is_surveyed_) survey(progress);
    snapshot_.stage(*staging_->memory, staging_->pool);
  }
  void settle() override { snapshot_.settle(); }

  void write(SaveProgress& progress) override {
    if (!to_->saves_asynchronously()) {
      return detail::timed_save(progress,
                                [&] { to_->save_checkpoint(snapshot_.checkpoint(), path_, storage_options_); });
    }
    const SaveFuture save = to_->async_save_checkpoint(snapshot_.checkpoint(), path_, storage_options_);
    save.wait(SaveStage::Written);
    progress.reach(SaveStage::Written);
    save.wait();
    progress.update_timing([inner = save.timing()](SaveTiming& timing) {
      timing.writing = inner.writing;
      timing.flushing = inner.flushing;
    });
  }

 private:
  const std::shared_ptr<Staging> staging_;
  const std::shared_ptr<CheckpointIO> to_;
  detail::Snapshot snapshot_;
  bool is_surveyed_ = false;
  const std::string path_;
  const std::optional<Dict> storage_options_;
};

}  // namespace

struct AsyncCheckpointIO::Engine {
  explicit Engine(const AsyncCheckpointIOOptions& options)
      : staging(std::make_shared<Staging>(options)),
        queue({.max_pending = options.max_pending, .drain_timeout = options.drain_timeout}) {}

  void reserve(const detail::StagingBytes& n_bytes) {
    queue.post([staging = staging, n_bytes] {
      try {
        const auto buffer = staging->memory->acquire(n_bytes.mapped);
        detail::prefault(*buffer, n_bytes.mapped, staging->pool);
        if (n_bytes.pinned > 0) staging->pinned->acquire(n_bytes.pinned);  // has its pages then
      } catch (const Error&) {                                             // the save that needs it says so
      }
    });
  }

  const std::shared_ptr<Staging> staging;
  detail::SaveQueue queue;  // ends first
};

AsyncCheckpointIO::AsyncCheckpointIO(AsyncCheckpointIOOptions options) : engine_(std::make_unique<Engine>(options)) {}

AsyncCheckpointIO::AsyncCheckpointIO(std::shared_ptr<CheckpointIO> checkpoint_io, AsyncCheckpointIOOptions options)
    : WrappingCheckpointIO(std::move(checkpoint_io)), engine_(std::make_unique<Engine>(options)) {}

AsyncCheckpointIO::~AsyncCheckpointIO() = default;

SaveFuture AsyncCheckpointIO::async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                                    const std::optional<Dict>& storage_options) {
  wrapped();
  return SaveFuture(engine_->queue.add(path, [&](SaveProgress& progress) {
    auto save = std::make_unique<BackgroundSave>(engine_->staging, checkpoint_io(), checkpoint, path, storage_options);
    save->survey(progress);
    return save;
  }));
}

// What is on other devices is copied in the order of the work that the calling thread gave them.
SaveFuture AsyncCheckpointIO::hand_over_checkpoint(Checkpoint checkpoint, const std::string& path,
                                                   const std::optional<Dict>& storage_options) {
  wrapped();
  return SaveFuture(engine_->queue.add(path, [&](SaveProgress& progress) {
    auto save = std::make_unique<BackgroundSave>(engine_->staging, checkpoint_io(), std::move(checkpoint), path,
                                                 storage_options);
    if (at::getAccelerator()) save->survey(progress);
    return save;
  }));
}

void AsyncCheckpointIO::save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                        const std::optional<Dict>& storage_options) {
  AsyncCheckpointIO::async_save_checkpoint(checkpoint, path, storage_options).wait(SaveStage::Staged);
}

void AsyncCheckpointIO::finish_pending() {
  engine_->queue.wait();
  engine_->queue.throw_error();
}

std::optional<Checkpoint> AsyncCheckpointIO::load_checkpoint(const std::string& path, const LoadOptions& options) {
  finish_pending();
  return WrappingCheckpointIO::load_checkpoint(path, options);
}

void AsyncCheckpointIO::remove_checkpoint(const std::string& path) {
  finish_pending();
  WrappingCheckpointIO::remove_checkpoint(path);
}

void AsyncCheckpointIO::teardown() {
  engine_->queue.stop();
  engine_->staging->pool.stop();
  engine_->staging->memory->free_kept();
  engine_->staging->pinned->free_kept();
  try {
    WrappingCheckpointIO::teardown();
  } catch (...) {
    engine_->queue.keep_error(std::current_exception());
  }
  engine_->queue.throw_error();
}

void AsyncCheckpointIO::reserve(const Checkpoint& checkpoint) { engine_->reserve(detail::staging_bytes(checkpoint)); }

void AsyncCheckpointIO::reserve(std::size_t n_bytes) { engine_->reserve({.mapped = n_bytes}); }

}  // namespace ckptio
