// SPDX-License-Identifier: Apache-2.0
// One pass over validation batches.
#pragma once

#include "trainer/run.h"

namespace ckptio::detail {

// In eval mode and without gradients; afterwards every submodule is in the mode it was in. `done` is called between
// the last batch, whose metrics are then known, and the on_validation_end hooks.
void run_validation(
    Run& run, BatchSource& source, const std::function<void()>& done = [] {});

}  // namespace ckptio::detail
