// SPDX-License-Identifier: Apache-2.0
// When metrics go to the loggers, and under which step: Lightning's, the number of optimizer steps done when the last
// of them were measured; so those of the first step are of step 0.
#pragma once

#include "trainer/run.h"

namespace ckptio::detail {

// What the step just done logged, if it is one of every log_every_n_steps; `stepped`: the optimizers stepped.
void log_step_metrics(Run& run, bool stepped);
// The means over the epoch of training that ends.
void log_epoch_metrics(Run& run);
// What the validation or test that ends gave.
void log_evaluation_metrics(Run& run);

}  // namespace ckptio::detail
