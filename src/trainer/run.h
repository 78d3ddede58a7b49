// SPDX-License-Identifier: Apache-2.0
// Run: all that a Trainer consists of; what its loops and its checkpoint code share.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "ckptio/trainer/trainer.h"
#include "trainer/fit_progress.h"
#include "trainer/metric_store.h"

namespace ckptio::detail {

struct Run {
  Trainer& trainer;
  TrainerOptions options;
  std::optional<std::int64_t> max_epochs;  // unset: no end
  std::shared_ptr<CheckpointIO> checkpoint_io;
  std::vector<std::shared_ptr<Callback>> callbacks;

  TrainingModule* module = nullptr;  // borrowed; the module says when it goes
  OptimizersAndSchedulers optimizers_and_schedulers{};
  FitProgress progress{};
  MetricStore metrics{};
  std::optional<Dict> resume_rng{};  // from a checkpoint, until the loop takes it up
  bool should_stop = false;

  // A hook of the module, with the callbacks' around it as in Lightning: those that save come last.
  void call_around(void (Callback::*hook)(Trainer&, TrainingModule&), void (TrainingModule::*of_module)()) {
    for (const auto& callback : callbacks) {
      if (!callback->saves_checkpoints()) (callback.get()->*hook)(trainer, *module);
    }
    (module->*of_module)();
    for (const auto& callback : callbacks) {
      if (callback->saves_checkpoints()) (callback.get()->*hook)(trainer, *module);
    }
  }

  template <class... Parameters, class... Arguments>
  void call(void (Callback::*hook)(Trainer&, TrainingModule&, Parameters...), Arguments&&... arguments) {
    for (const auto& callback : callbacks) (callback.get()->*hook)(trainer, *module, arguments...);
  }
};

}  // namespace ckptio::detail
