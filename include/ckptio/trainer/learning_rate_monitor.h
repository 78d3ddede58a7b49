// SPDX-License-Identifier: Apache-2.0
// LearningRateMonitor: writes the optimizers' learning rates to the Trainer's loggers.
//
//   ckptio::Trainer trainer({.loggers = {csv}, .callbacks = {std::make_shared<ckptio::LearningRateMonitor>()}});
//
// Names are Lightning's, made of the optimizer's class: lr-SGD; for a second one of the class lr-SGD-1; for groups of
// one optimizer lr-SGD/pg1, lr-SGD/pg2; with "-momentum" and "-weight_decay" behind them. Optimizers with a scheduler
// come first, in the order of the schedulers. Written are the rates that the step, or the epoch, begins with, beside
// the metrics of that step; they are in Trainer::callback_metrics() too.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "ckptio/trainer/callback.h"

namespace ckptio {

struct LearningRateMonitorOptions {
  // "step": with each log_every_n_steps-th step; "epoch": as each epoch begins. Unset: as the scheduler's interval
  // says; those of optimizers without a scheduler both times.
  std::optional<std::string> logging_interval{};
  // The momentum too, or Adam's first beta; 0 for optimizers that have neither.
  bool log_momentum = false;
  bool log_weight_decay = false;
};

class LearningRateMonitor : public Callback {
 public:
  // MisconfigurationError for another interval.
  explicit LearningRateMonitor(LearningRateMonitorOptions options = {});

  // MisconfigurationError for a Trainer without loggers, a fast_dev_run apart.
  void on_train_start(Trainer& trainer, TrainingModule&) override;
  void on_train_epoch_start(Trainer& trainer, TrainingModule& module) override;
  void on_train_batch_start(Trainer& trainer, TrainingModule& module, std::int64_t batch_idx) override;

 private:
  // `interval`: "step", "epoch" or "any".
  std::map<std::string, double> stats(const Trainer& trainer, const std::string& interval) const;
  void write(const Trainer& trainer, TrainingModule& module, const std::string& interval) const;

  LearningRateMonitorOptions options_;
  std::int64_t written_step_ = -1;  // of the last batch that was written, for those that share a step
};

}  // namespace ckptio
