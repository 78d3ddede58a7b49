// SPDX-License-Identifier: Apache-2.0
// FitProgress as the key `loops` of a Lightning checkpoint (pytorch-lightning 2.6.6), and back, so that a run goes from
// one to the other. Lightning counts each thing four times (ready, started, processed, completed) and tells from the
// differences at which hook the checkpoint was saved; what it does not know stands under a key of ours that it ignores.
#pragma once

#include "trainer/fit_progress.h"

namespace ckptio::detail {

// Lightning reads this to know how old a checkpoint's layout is. Ours is the one of this version, which the interop
// tests run; a newer Lightning migrates it from there, an older one warns and reads it all the same.
inline constexpr const char* kLightningVersion = "2.6.6";

// All that a checkpoint has under `loops`; `metrics` are kept beside the progress, and the gradients that are being
// accumulated: {name of a parameter: gradient}.
Dict save_loops(const FitProgress& progress, Dict metrics, Dict gradients);

struct LoadedLoops {
  FitProgress progress;
  // Of a checkpoint of ours.
  std::optional<Dict> metrics;
  std::optional<Dict> gradients;
};

// From a checkpoint of ours or of Lightning's. KeyError or TypeError, naming the place, where it is neither's;
// ValueError for counters that no run has.
LoadedLoops load_loops(const Dict& loops);

// The epoch that Lightning says a checkpoint is at: from on_train_epoch_end on, the next one.
std::int64_t current_epoch(const Dict& loops);

}  // namespace ckptio::detail
