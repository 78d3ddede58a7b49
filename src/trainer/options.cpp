// SPDX-License-Identifier: Apache-2.0
#include "trainer/options.h"

#include <algorithm>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/trainer/progress_bar.h"
#include "trainer/trainer_state.h"

namespace ckptio::detail {
namespace {

std::shared_ptr<CheckpointIO> choose_checkpoint_io(const std::vector<Plugin>& plugins) {
  if (plugins.size() > 1) {
    throw MisconfigurationError(
        "Received multiple values for CheckpointIO flags in `plugins`. Expected one value for each type at most.");
  }
  return plugins.empty() ? std::make_shared<TorchCheckpointIO>() : plugins.front().checkpoint_io();
}

std::optional<std::int64_t> choose_max_epochs(const TrainerOptions& options) {
  constexpr std::int64_t kDefault = 1000;  // Lightning's
  if (!options.max_epochs) return options.max_steps >= 0 ? std::nullopt : std::optional(kDefault);
  return *options.max_epochs == -1 ? std::nullopt : options.max_epochs;
}

std::vector<std::shared_ptr<Callback>> arrange_callbacks(const TrainerOptions& options) {
  std::vector<std::shared_ptr<Callback>> callbacks = options.callbacks;
  if (std::ranges::find(callbacks, nullptr) != callbacks.end()) {
    throw TypeError("Trainer(callbacks=...): a null pointer is among them");
  }
  const auto is_progress_bar = [](const auto& callback) {
    return dynamic_cast<ProgressBar*>(callback.get()) != nullptr;
  };
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

}  // namespace

std::unique_ptr<Run> make_run(Trainer& trainer, TrainerOptions options) {
  check_at_least("max_epochs", options.max_epochs, -1);
  check_at_least("max_steps", options.max_steps, -1);
  check_at_least("check_val_every_n_epoch", options.check_val_every_n_epoch, 1);
  check_at_least("limit_train_batches", options.limit_train_batches, 0);
  check_at_least("limit_val_batches", options.limit_val_batches, 0);
  auto checkpoint_io = choose_checkpoint_io(options.plugins);
  auto callbacks = arrange_callbacks(options);
  const auto max_epochs = choose_max_epochs(options);
  std::unique_ptr<Run> run(new Run{.trainer = trainer,
                                   .options = std::move(options),
                                   .max_epochs = max_epochs,
                                   .checkpoint_io = std::move(checkpoint_io),
                                   .callbacks = std::move(callbacks)});
  CallbacksState{*run}.state_dict();  // throws where two have one key
  return run;
}

void check(const OptimizersAndSchedulers& configured) {
  for (const auto& optimizer : configured.optimizers) {
    if (!optimizer) throw TypeError("configure_optimizers returned a null pointer among its optimizers");
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
