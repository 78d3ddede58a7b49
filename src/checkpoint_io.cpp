// SPDX-License-Identifier: Apache-2.0
#include "ckptio/checkpoint_io.h"

#include "async/save_progress.h"
#include "async/written_signal.h"
#include "value/n_bytes.h"

namespace ckptio {

void CheckpointIO::reserve(const Checkpoint& /*checkpoint*/) {}

SaveFuture CheckpointIO::async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                               const std::optional<Dict>& storage_options) {
  const auto progress = std::make_shared<detail::SaveProgress>(path);
  const auto begin = std::chrono::steady_clock::now();
  detail::timed_save(*progress, [&] { save_checkpoint(checkpoint, path, storage_options); });
  progress->update_timing([&](SaveTiming& timing) {
    timing.n_bytes = detail::n_bytes_of(checkpoint);
    timing.stalled = std::chrono::steady_clock::now() - begin;
  });
  progress->reach(SaveStage::Durable);
  return SaveFuture(progress);
}

SaveFuture CheckpointIO::hand_over_checkpoint(Checkpoint checkpoint, const std::string& path,
                                              const std::optional<Dict>& storage_options) {
  return async_save_checkpoint(checkpoint, path, storage_options);
}

}  // namespace ckptio
