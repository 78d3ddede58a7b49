// SPDX-License-Identifier: Apache-2.0
// FitProgress: where in a fit the run stands; what a resume needs to go on there.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "ckptio/value.h"

namespace ckptio::detail {

// What of the epoch is behind us. A checkpoint saved in a stage resumes in it.
enum class EpochStage {
  kNotBegun,   // nothing: its shuffle is not drawn yet
  kTraining,   // `batches_done` batches
  kValidated,  // all batches, and the validation if there was one
  kEnded,      // the schedulers' step too: all but the on_train_epoch_end hooks
};

// How long the epochs of a fit are and when they validate; see fit_shape.h.
struct FitShape {
  std::optional<std::int64_t> n_train_batches;  // per epoch, where it is known
  std::optional<std::int64_t> n_val_batches;    // at most
  bool validates = false;
  // After every so many batches; unset: at the end of epochs.
  std::optional<std::int64_t> val_check_batches;
};

struct FitProgress {
  std::int64_t epoch = 0;
  std::int64_t global_step = 0;
  EpochStage stage = EpochStage::kNotBegun;
  std::int64_t batches_done = 0;   // in this epoch
  std::int64_t total_batches = 0;  // in all epochs
  std::int64_t epoch_steps = 0;    // optimizer steps in this epoch
  // Batches whose gradients wait for the next optimizer step.
  std::int64_t accumulated_batches = 0;
  // How many batches of this epoch were done at its last validation that ended; 0: none.
  std::int64_t validated_batches = 0;
  // Of training, before this process, where there is a max_time.
  std::chrono::nanoseconds elapsed{};
  // This epoch's last batch is done, and the step of the schedulers that end an epoch and need no metric.
  bool all_batches_done = false;
  std::int64_t n_val_batches = 0;    // of the validation of this epoch, or, before it begins, of the last one
  std::int64_t scheduler_steps = 0;  // in this epoch
  std::int64_t total_scheduler_steps = 0;
  std::optional<std::int64_t> n_train_batches;

  // The generators when the loader was begun in this epoch; from them a resume draws the same shuffle.
  std::optional<Dict> epoch_rng;
  // The generators before the batch that is fetched but not done yet; from them a resume draws the same batch.
  std::optional<Dict> fetch_rng;
  // Of a loader that has one: its state before that batch was fetched; between epochs, at the end of the last one.
  std::optional<Dict> loader_state;
  // While something runs that a resume does from its start (a step, a validation): the generators at that start.
  std::optional<Dict> redo_rng;

  // Read from a checkpoint of Lightning's, which keeps no metrics: a scheduler that needs one has to be given it anew.
  bool lacks_metrics = false;

  void to_next_epoch() {
    ++epoch;
    batches_done = 0;
    epoch_rng.reset();
    fetch_rng.reset();
    stage = EpochStage::kNotBegun;
  }
};

}  // namespace ckptio::detail
