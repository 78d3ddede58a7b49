// SPDX-License-Identifier: Apache-2.0
// AsyncCheckpointIO: saves in the background by the plugin that it wraps, while training goes on.
//
//   ckptio::Trainer trainer({.plugins = {std::make_shared<ckptio::AsyncCheckpointIO>(
//       std::make_shared<ckptio::PythonCheckpointIO>())}});
//
// A save copies the tensors into memory of its own, which later saves use again, and hands the copy to the wrapped
// plugin on a thread of its own. In it, what shares a storage still shares it and views are views; tensors of other
// devices are on the CPU. Beyond the memory of that copy, at most max_pending times, nothing is held.
//
// Tensors of an accelerator, such as CUDA's, are copied by the device itself, on a stream beside its others. The copy
// has what the calling thread's current stream was given before the call; neither the call nor the device's other work
// waits for it. What it is copied to is pinned memory, of which LibTorch's allocators take the next power of two,
// unless PYTORCH_ALLOC_CONF sets pinned_max_round_threshold_mb. Where there is none to be had, or LibTorch has no such
// streams for a device (MPS), the call brings its tensors to the CPU before it returns.
//
// What goes wrong in the background surfaces once, as what it was thrown as: in wait() of the save's future, or else
// in the next call of any function here, which then does nothing else; after that the plugin works again. What nobody
// was told of when it is destroyed, or when the process ends, is a line on stderr.
//
// What is pending when it is destroyed, main returns or std::exit is called is finished first, for at most
// drain_timeout; not on std::quick_exit, _exit, abort, or when a signal kills the process.
//
// Threads: one at a time, and the wrapped plugin is never called from two at once.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "ckptio/decorators/wrapping_checkpoint_io.h"

namespace ckptio {

struct AsyncCheckpointIOOptions {
  // How many saves may be pending, each holding a copy of its tensors. A save beyond them waits until one is done.
  std::size_t max_pending = 1;

  // How many threads copy tensors. 0: one for each of the processor's cores, at most 4.
  std::size_t n_staging_threads = 0;

  // How long the destructor and the end of the process wait for what is pending. What is not finished then is named on
  // stderr and may be missing; what it would replace is whole. teardown() waits as long as it takes.
  std::chrono::nanoseconds drain_timeout = std::chrono::minutes(10);
};

class AsyncCheckpointIO : public WrappingCheckpointIO {
 public:
  // ValueError where max_pending is 0, drain_timeout negative, or `checkpoint_io` null.
  explicit AsyncCheckpointIO(AsyncCheckpointIOOptions options = {});
  explicit AsyncCheckpointIO(std::shared_ptr<CheckpointIO> checkpoint_io, AsyncCheckpointIOOptions options = {});
  ~AsyncCheckpointIO() override;

  // Returns once all was copied: nothing that is done afterwards to tensors, their aliases or containers is seen in
  // the file.
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options = std::nullopt) override;

  // Returns once containers and plain values were copied: before Staged. A tensor that is changed in place before
  // Staged fails the save with a ValueError that names it, and nothing is written: as far as LibTorch counts changes,
  // so not for inference tensors, bare storages, or writes through a data pointer. On a device a change counts when it
  // is asked for.
  SaveFuture async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                   const std::optional<Dict>& storage_options = std::nullopt) override;

  // Returns at once where there is no accelerator: the checkpoint is gone through in the background then, and changes
  // of tensors before that are not noticed, those between that and Staged as above. Otherwise as
  // async_save_checkpoint().
  SaveFuture hand_over_checkpoint(Checkpoint checkpoint, const std::string& path,
                                  const std::optional<Dict>& storage_options = std::nullopt) override;
  bool saves_asynchronously() const override { return true; }

  // Waits for all that is pending, which may be what it reads, and throws its error instead of loading.
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options = {}) override;

  // Waits for all that is pending: an old checkpoint is removed because a newer one was saved. If that failed, throws
  // its error and removes nothing. To go on meanwhile, remove once the newer save's future is_ready().
  void remove_checkpoint(const std::string& path) override;

  // Waits for all that is pending, ends the threads, frees the memory, and calls the wrapped plugin's teardown(); then
  // throws what is to surface.
  void teardown() override;

  // Has memory for a save of `checkpoint`, or of so many bytes of tensors on the CPU, made ready in the background, so
  // that the first save costs no more than the later ones.
  void reserve(const Checkpoint& checkpoint) override;
  void reserve(std::size_t n_bytes);

 private:
  struct Engine;
  void finish_pending();

  std::unique_ptr<Engine> engine_;
};

}  // namespace ckptio
