// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ckptio/trainer/trainer.h"

namespace ckptio::detail {

// As TrainerOptions::gradient_clip_val says; each optimizer's parameters for themselves.
void clip_gradients(const TrainerOptions& options, const OptimizersAndSchedulers& configured);

}  // namespace ckptio::detail
