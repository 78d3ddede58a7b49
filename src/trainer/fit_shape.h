// SPDX-License-Identifier: Apache-2.0
// How long the epochs of a run are and when they validate, worked out from the options and the loaders as it begins.
#pragma once

#include <string>

#include "ckptio/trainer/trainer.h"
#include "trainer/fit_progress.h"

namespace ckptio::detail {

// Errors as the options' comments say. `val` may be null.
FitShape shape_of(const TrainerOptions& options, const BatchSource& train, const BatchSource* val);

// At most how many batches of a "validate", "test" or "predict" stage.
std::optional<std::int64_t> limit_of(const TrainerOptions& options, const std::string& stage,
                                     const BatchSource& source);

}  // namespace ckptio::detail
