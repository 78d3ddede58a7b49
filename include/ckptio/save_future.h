// SPDX-License-Identifier: Apache-2.0
// SaveFuture: a save that may still be going on, and how far it is.
//
//   ckptio::SaveFuture save = io.async_save_checkpoint(checkpoint, "run/last.ckpt");
//   ...                                     // compute; the checkpoint's tensors must not change yet
//   save.wait(ckptio::SaveStage::Staged);   // from here on they may
//   ...
//   save.wait();                            // the checkpoint can be loaded, and survives a power cut
//
// A value: copies share the save. Destroying it waits for nothing. Threads: may be used from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

namespace ckptio {

// How far a save is. Each stage implies those before it.
enum class SaveStage {
  Staged,   // all was copied: the caller may change the tensors
  Written,  // all bytes were handed to the storage; plugins that can't tell reach it with Durable
  Durable,  // the checkpoint can be loaded, and survives a power cut where the plugin promises that
};

// What a save cost.
struct SaveTiming {
  std::int64_t n_bytes = 0;             // of the tensors' storages, each counted once
  std::chrono::nanoseconds stalled{};   // the caller was kept waiting, for room or for a stage
  std::chrono::nanoseconds staging{};   // from the call to Staged; 0 where nothing is staged
  std::chrono::nanoseconds writing{};   // from the begin of the plugin's save to Written
  std::chrono::nanoseconds flushing{};  // from Written to Durable
};

namespace detail {
class PendingSaves;  // src/trainer/pending_saves.h
class SaveProgress;  // src/async/save_progress.h
}  // namespace detail

class SaveFuture {
 public:
  // A save that is over and done.
  SaveFuture();
  explicit SaveFuture(std::shared_ptr<detail::SaveProgress> progress);

  // Where to; empty for a default-constructed one.
  const std::string& path() const noexcept;

  // Returns once the stage is reached. If the save failed before that, throws its error, as often as it is asked; an
  // error that was thrown here once does not surface anywhere else.
  void wait(SaveStage stage = SaveStage::Durable) const;
  // The same for at most `timeout`; false where it passed first.
  bool wait_for(std::chrono::nanoseconds timeout, SaveStage stage = SaveStage::Durable) const;

  // True once wait() would return, or throw, at once.
  bool is_ready(SaveStage stage = SaveStage::Durable) const noexcept;

  // What is known so far; whole once it is ready.
  SaveTiming timing() const;

 private:
  friend class detail::PendingSaves;
  std::shared_ptr<detail::SaveProgress> progress_;
};

}  // namespace ckptio
