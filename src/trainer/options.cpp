// SPDX-License-Identifier: Apache-2.0
#include "trainer/options.h"

#include <torch/optim/lbfgs.h>

#include <algorithm>
#include <set>
#include <typeinfo>

#include "ckptio/decorators/wrapping_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/trainer/model_checkpoint.h"
#include "ckptio/trainer/progress_bar.h"
#include "trainer/trainer_state.h"
#include "value/type_name.h"

namespace ckptio::detail {
namespace {

std::shared_ptr<Strategy> choose_strategy(const TrainerOptions& options) {
  if (options.plugins.size() > 1) {
    throw MisconfigurationError(
        "Received multiple values for CheckpointIO flags in `plugins`. Expected one value for each type at most.");
  }
  std::shared_ptr<Strategy> strategy = options.strategy ? options.strategy : std::make_shared<Strategy>();
  if (!options.plugins.empty()) {
    strategy->set_checkpoint_io(options.plugins.front().checkpoint_io());
  } else if (!strategy->checkpoint_io()) {
    set_default_checkpoint_io(*strategy);
  }
  if (auto* wrapper = dynamic_cast<WrappingCheckpointIO*>(strategy->checkpoint_io().get())) {
    wrapper->set_checkpoint_io(std::make_shared<TorchCheckpointIO>());  // where it has none
  }
  return strategy;
}

std::optional<std::int64_t> choose_max_epochs(const TrainerOptions& options) {
  constexpr std::int64_t kDefault = 1000;  // Lightning's
  if (!options.max_epochs) {
    return options.max_steps >= 0 || options.max_time ? std::nullopt : std::optional(kDefault);
  }
  return *options.max_epochs == -1 ? std::nullopt : options.max_epochs;
}

void add_or_refuse_checkpointing(const TrainerOptions& options, std::vector<std::shared_ptr<Callback>>& callbacks) {
  if (!options.enable_checkpointing) return;
  for (const auto& callback : callbacks) {
    if (!callback->saves_checkpoints()) continue;
    if (*options.enable_checkpointing) return;
    const Callback& found = *callback;
    throw MisconfigurationError("Trainer was configured with `enable_checkpointing=False` but found `" +
                                type_name(typeid(found)) + "` in callbacks list.");
  }
  if (*options.enable_checkpointing) callbacks.push_back(std::make_shared<ModelCheckpoint>());
}

std::vector<std::shared_ptr<Callback>> arrange_callbacks(const TrainerOptions& options) {
  std::vector<std::shared_ptr<Callback>> callbacks = options.callbacks;
  if (std::ranges::find(callbacks, nullptr) != callbacks.end()) {
    throw TypeError("Trainer(callbacks=...): a null pointer is among them");
  }
  const auto is_progress_bar = [](const auto& callback) {
    return dynamic_cast<ProgressBar*>(callback.get()) != nullptr;
  };
  add_or_refuse_checkpointing(options, callbacks);
  if (options.enable_progress_bar && std::ranges::none_of(callbacks, is_progress_bar)) {
    callbacks.push_back(std::make_shared<ProgressBar>());
  }
  std::ranges::stable_partition(callbacks, [](const auto& callback) { return !callback->saves_checkpoints(); });
  return callbacks;
}

void check_at_least(const char* name, std::optional<std::int64_t> value, std::int64_t least) {
  if (!value || *value >= least) return;
  throw MisconfigurationError("Invalid value for " + std::string(name) + "=" + std::to_string(*value) +
                              ". Must be >= " + std::to_string(least));
}

void check_limit(const char* name, const BatchLimit& limit) {
  if (!limit.is_fraction()) return check_at_least(name, limit.n_batches(), 0);
  if (limit.fraction() >= 0 && limit.fraction() <= 1) return;
  throw MisconfigurationError("You have passed invalid value " + std::to_string(limit.fraction()) + " for " + name +
                              ", it has to be in [0.0, 1.0] or an int.");
}

void check(const TrainerOptions& options) {
  check_at_least("max_epochs", options.max_epochs, -1);
  check_at_least("min_epochs", options.min_epochs, 0);
  check_at_least("max_steps", options.max_steps, -1);
  check_at_least("min_steps", options.min_steps, 0);
  check_at_least("check_val_every_n_epoch", options.check_val_every_n_epoch, 0);
  check_at_least("num_sanity_val_steps", options.num_sanity_val_steps, -1);
  check_at_least("fast_dev_run", options.fast_dev_run, 0);
  check_at_least("accumulate_grad_batches", options.accumulate_grad_batches, 1);
  check_at_least("log_every_n_steps", options.log_every_n_steps, 1);
  check_limit("limit_train_batches", options.limit_train_batches);
  check_limit("limit_val_batches", options.limit_val_batches);
  check_limit("limit_test_batches", options.limit_test_batches);
  check_limit("limit_predict_batches", options.limit_predict_batches);
  check_limit("val_check_interval", options.val_check_interval);
  if (!options.val_check_interval.is_fraction()) {
    check_at_least("val_check_interval", options.val_check_interval.n_batches(), 1);
  }
  if (options.gradient_clip_algorithm != "norm" && options.gradient_clip_algorithm != "value") {
    throw MisconfigurationError("`gradient_clip_algorithm` " + options.gradient_clip_algorithm +
                                " is invalid. Allowed algorithms: [\"value\", \"norm\"].");
  }
  for (const auto& logger : options.loggers) {
    if (!logger) throw TypeError("Trainer(loggers=...): a null pointer is among them");
  }
}

// States are asked for only where keys are the same: those of callbacks that have none may be.
void check_state_keys(Run& run) {
  std::set<std::string> keys;
  for (const auto& callback : run.callbacks) {
    if (!keys.insert(callback->state_key()).second) return static_cast<void>(CallbacksState{run}.state_dict());
  }
}

void apply_fast_dev_run(TrainerOptions& options) {
  const BatchLimit n_batches(options.fast_dev_run);
  options.limit_train_batches = options.limit_val_batches = n_batches;
  options.limit_test_batches = options.limit_predict_batches = n_batches;
  options.max_epochs = 1;
  options.max_steps = options.fast_dev_run;
  options.min_epochs = options.min_steps = 0;
  options.check_val_every_n_epoch = 1;
  options.val_check_interval = BatchLimit();
  options.num_sanity_val_steps = 0;
  options.loggers.clear();
}

}  // namespace

std::unique_ptr<Run> make_run(Trainer& trainer, TrainerOptions options) {
  check(options);
  if (options.fast_dev_run > 0) apply_fast_dev_run(options);
  auto strategy = choose_strategy(options);
  auto callbacks = arrange_callbacks(options);
  const auto max_epochs = choose_max_epochs(options);
  auto loggers = options.loggers;
  std::unique_ptr<Run> run(new Run{.trainer = trainer,
                                   .options = std::move(options),
                                   .max_epochs = max_epochs,
                                   .strategy = std::move(strategy),
                                   .callbacks = std::move(callbacks),
                                   .loggers = std::move(loggers)});
  check_state_keys(*run);
  return run;
}

void check(const TrainerOptions& options, const OptimizersAndSchedulers& configured) {
  for (const auto& optimizer : configured.optimizers) {
    if (!optimizer) throw TypeError("configure_optimizers returned a null pointer among its optimizers");
    if (options.accumulate_grad_batches > 1 && dynamic_cast<torch::optim::LBFGS*>(optimizer.get()) != nullptr) {
      throw MisconfigurationError("accumulate_grad_batches=" + std::to_string(options.accumulate_grad_batches) +
                                  " does not go with LBFGS, which evaluates its closure several times in a step");
    }
  }
  for (const LRSchedulerConfig& config : configured.lr_schedulers) {
    if (!config.scheduler) throw TypeError("configure_optimizers returned a null pointer among its schedulers");
    const std::string& interval = config.options.interval;
    if (interval != "epoch" && interval != "step") {
      throw MisconfigurationError("a learning rate scheduler's interval is \"epoch\" or \"step\", but got \"" +
                                  interval + "\"");
    }
    if (config.scheduler->requires_metric() && !config.options.monitor) {
      throw MisconfigurationError(
          "`configure_optimizers` must include a monitor when a `ReduceLROnPlateau` scheduler is used. For example: "
          "{{optimizer}, {{scheduler, {.monitor = \"val_loss\"}}}}");
    }
    check_at_least("a learning rate scheduler's frequency", config.options.frequency, 1);
  }
}

}  // namespace ckptio::detail
