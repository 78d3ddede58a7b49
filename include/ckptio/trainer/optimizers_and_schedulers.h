// SPDX-License-Identifier: Apache-2.0
// OptimizersAndSchedulers: what TrainingModule::configure_optimizers returns.
//
//   return std::make_shared<torch::optim::SGD>(parameters(), 0.1);
//   return {{adam}, {step_lr}};
//   return {{adam}, {{plateau, {.monitor = "val_loss"}}}};
//
// The Trainer shares them and drops them at its next run.
#pragma once

#include <torch/optim/optimizer.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ckptio/lr_scheduler.h"

namespace ckptio {

// When a scheduler steps: when Lightning's do.
struct LRSchedulerOptions {
  // "step": after steps; "epoch": after the last step of epochs, or, if it requires_metric(), after the validation.
  std::string interval = "epoch";
  std::int64_t frequency = 1;            // every so many epochs of the run, or steps of the epoch
  std::optional<std::string> monitor{};  // the metric given to ReduceLROnPlateau
};

struct LRSchedulerConfig {
  template <std::derived_from<LRScheduler> T>
  LRSchedulerConfig(std::shared_ptr<T> scheduler, LRSchedulerOptions options = {})
      : scheduler(std::move(scheduler)), options(std::move(options)) {}

  std::shared_ptr<LRScheduler> scheduler;
  LRSchedulerOptions options;
};

struct OptimizersAndSchedulers {
  OptimizersAndSchedulers() = default;
  template <std::derived_from<torch::optim::Optimizer> T>
  OptimizersAndSchedulers(std::shared_ptr<T> optimizer) : optimizers{std::move(optimizer)} {}
  template <std::derived_from<torch::optim::Optimizer> T>
  OptimizersAndSchedulers(std::unique_ptr<T> optimizer) : optimizers{std::shared_ptr<T>(std::move(optimizer))} {}
  OptimizersAndSchedulers(std::vector<std::shared_ptr<torch::optim::Optimizer>> optimizers,
                          std::vector<LRSchedulerConfig> lr_schedulers = {})
      : optimizers(std::move(optimizers)), lr_schedulers(std::move(lr_schedulers)) {}

  std::vector<std::shared_ptr<torch::optim::Optimizer>> optimizers;
  std::vector<LRSchedulerConfig> lr_schedulers;
};

}  // namespace ckptio
