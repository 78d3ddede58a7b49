// SPDX-License-Identifier: Apache-2.0
#include "trainer/fit_shape.h"

#include <algorithm>
#include <string>

namespace ckptio::detail {
namespace {

// After how many batches to validate; unset: at the end of epochs.
std::optional<std::int64_t> val_check_batches(const TrainerOptions& options, std::optional<std::int64_t> n_train) {
  const BatchLimit& interval = options.val_check_interval;
  const bool within_epochs = options.check_val_every_n_epoch != 0;
  if (!within_epochs && interval.is_fraction()) {
    throw MisconfigurationError(
        "`val_check_interval` should be an integer when `check_val_every_n_epoch=0`: batches are counted over all "
        "epochs.");
  }
  if (interval.is_fraction()) {
    if (interval.fraction() == 1.0) return std::nullopt;
    if (!n_train) return std::max<std::int64_t>(*interval.of(n_train, "val_check_interval"), 1);
    return std::max<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(*n_train) * interval.fraction()), 1);
  }
  if (within_epochs && n_train && interval.n_batches() > *n_train) {
    throw ValueError("`val_check_interval` (" + std::to_string(interval.n_batches()) +
                     ") must be less than or equal to the number of the training batches (" + std::to_string(*n_train) +
                     "). If you want to disable validation set `limit_val_batches` to 0 instead. If you want to "
                     "validate based on the total training batches, set `check_val_every_n_epoch=0`.");
  }
  return interval.n_batches();
}

}  // namespace

FitShape shape_of(const TrainerOptions& options, const BatchSource& train, const BatchSource* val) {
  FitShape shape;
  shape.n_train_batches = options.limit_train_batches.of(train.n_batches(), "limit_train_batches");
  if (val != nullptr) shape.n_val_batches = limit_of(options, "validate", *val);
  shape.validates = val != nullptr && shape.n_val_batches != 0;
  if (shape.validates) shape.val_check_batches = val_check_batches(options, shape.n_train_batches);
  return shape;
}

std::optional<std::int64_t> limit_of(const TrainerOptions& options, const std::string& stage,
                                     const BatchSource& source) {
  if (stage == "validate") return options.limit_val_batches.of(source.n_batches(), "limit_val_batches");
  if (stage == "test") return options.limit_test_batches.of(source.n_batches(), "limit_test_batches");
  return options.limit_predict_batches.of(source.n_batches(), "limit_predict_batches");
}

}  // namespace ckptio::detail
