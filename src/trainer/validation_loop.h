// SPDX-License-Identifier: Apache-2.0
// One pass over validation batches.
#pragma once

#include "trainer/run.h"

namespace ckptio::detail {

// In eval mode and without gradients; afterwards every submodule is in the mode it was in. `done` is called between
// the last batch, whose metrics are then known, and the on_validation_end hooks.
void run_validation(
    Run& run, BatchSource& source, const std::function<void(std::int64_t n_batches)>& done = [](std::int64_t) {});

// The same for the metrics alone: no callback is told.
void measure_validation(Run& run, BatchSource& source);

}  // namespace ckptio::detail
