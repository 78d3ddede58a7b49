// SPDX-License-Identifier: Apache-2.0
// What a Trainer makes of its options, and the errors they meet.
#pragma once

#include "trainer/run.h"

namespace ckptio::detail {

// A Run without a module. MisconfigurationError for options that do not go together.
std::unique_ptr<Run> make_run(Trainer& trainer, TrainerOptions options);

// Throws MisconfigurationError or TypeError for what configure_optimizers must not return.
void check(const TrainerOptions& options, const OptimizersAndSchedulers& configured);

}  // namespace ckptio::detail
