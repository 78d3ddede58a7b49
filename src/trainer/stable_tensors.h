// SPDX-License-Identifier: Apache-2.0
// Which tensors of a checkpoint stay as they are until the optimizers' next step, so that copying them may go on during
// the forward and backward pass: parameters and the optimizers' states. All others (the running means of batch norm,
// gradients being accumulated, what hooks add) may change at once.
#pragma once

#include "trainer/run.h"

namespace ckptio::detail {

// Puts copies in the place of those that may change; aliases among them stay aliases.
void copy_unstable_tensors(const Run& run, Checkpoint& checkpoint);

}  // namespace ckptio::detail
