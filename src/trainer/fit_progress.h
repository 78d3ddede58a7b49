// SPDX-License-Identifier: Apache-2.0
// FitProgress: where in a fit the run stands; what a resume needs to go on there.
#pragma once

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

struct FitProgress {
  std::int64_t epoch = 0;
  std::int64_t global_step = 0;
  EpochStage stage = EpochStage::kNotBegun;
  std::int64_t batches_done = 0;  // in this epoch
  std::optional<std::int64_t> n_train_batches;

  // The generators when the loader was begun in this epoch; from them a resume draws the same shuffle.
  std::optional<Dict> epoch_rng;
  // While something runs that a resume does from its start (a step, a validation): the generators at that start.
  std::optional<Dict> redo_rng;

  // All of it but redo_rng, which decides what the checkpoint's rng_state is.
  Dict state_dict() const;
  void load_state_dict(const Dict& state);
};

}  // namespace ckptio::detail
