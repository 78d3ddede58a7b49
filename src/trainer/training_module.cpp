// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/training_module.h"

#include "trainer/run.h"

namespace ckptio {

TrainingModule::~TrainingModule() {
  if (trainer_ != nullptr) trainer_->run_->module = nullptr;
}

void TrainingModule::log(const std::string& name, double value, const LogOptions& options) {
  if (trainer_ != nullptr) trainer_->run_->metrics.log(name, value, options);
}

void TrainingModule::log(const std::string& name, const torch::Tensor& value, const LogOptions& options) {
  if (trainer_ != nullptr) log(name, value.item<double>(), options);
}

Trainer& TrainingModule::trainer() const {
  if (trainer_ == nullptr) throw MisconfigurationError("this module is attached to no Trainer");
  return *trainer_;
}

std::int64_t TrainingModule::current_epoch() const { return trainer_ == nullptr ? 0 : trainer_->current_epoch(); }

std::int64_t TrainingModule::global_step() const { return trainer_ == nullptr ? 0 : trainer_->global_step(); }

}  // namespace ckptio
