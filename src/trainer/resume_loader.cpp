// SPDX-License-Identifier: Apache-2.0
#include "trainer/resume_loader.h"

#include "ckptio/error.h"
#include "trainer/generators.h"

namespace ckptio::detail {
namespace {

// Why the batches that come may not be those that would have come; empty where they will.
std::string doubt(const FitProgress& progress, const BatchSource& train) {
  if (train.is_stateful()) return "the checkpoint holds no state of it";
  if (progress.loader_state) return "the checkpoint holds the state of a loader, and this one can't take it";
  return train.replay_doubt();
}

void warn(const Run& run, const BatchSource& train, const std::string& why) {
  run.trainer.print(
      "You're resuming from a checkpoint that ended before the epoch ended and your dataloader is not resumable: " +
      train.name() + " is not known to resume exactly: " + why +
      ". The batches that were done are fetched again and passed over. HINT: use "
      "`ckptio::make_stateful_data_loader`, or a loader with `state_dict()` and `load_state_dict()`.");
}

void skip_batches(const FitProgress& progress, BatchSource& train) {
  for (std::int64_t i = 0; i < progress.batches_done; ++i) {
    if (train.next()) continue;
    throw MismatchError("resume in epoch " + std::to_string(progress.epoch) + ": the checkpoint was saved after " +
                        std::to_string(progress.batches_done) + " batches, the loader gives only " + std::to_string(i));
  }
}

}  // namespace

void resume_loader(const Run& run, BatchSource& train) {
  const FitProgress& progress = run.progress;
  if (train.is_stateful() && progress.loader_state) {
    train.load_state_dict(*progress.loader_state);
    // Between epochs too: a begin() after this one begins an epoch, as it would have in the run that was saved.
    train.begin();
    return;
  }
  if (progress.stage != EpochStage::kTraining) return;
  const std::string why = doubt(progress, train);
  if (!why.empty() && progress.batches_done > 0) warn(run, train, why);
  if (progress.epoch_rng) restore_generators(*progress.epoch_rng);
  train.begin();
  skip_batches(progress, train);
}

}  // namespace ckptio::detail
