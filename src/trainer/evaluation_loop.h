// SPDX-License-Identifier: Apache-2.0
// Validation, test and prediction: batches in eval mode, without gradients, with the hooks of their stage.
#pragma once

#include <functional>
#include <string>

#include "trainer/run.h"

namespace ckptio::detail {

// `stage`: "validate", "test" or "predict". At most `limit` batches. `done` runs after the last batch and the
// metrics' means, before the on_..._end hooks.
void run_evaluation(Run& run, const std::string& stage, BatchSource& source, std::optional<std::int64_t> limit,
                    const std::function<void(std::int64_t n_batches)>& done);

// A validation for its metrics alone: no callback sees it.
void measure_validation(Run& run, BatchSource& source, std::optional<std::int64_t> limit);

// Where options.num_sanity_val_steps asks for it: shows that validation can run, with hooks, and leaves no trace in
// metrics and generators.
void run_sanity_check(Run& run, BatchSource& source);

}  // namespace ckptio::detail
