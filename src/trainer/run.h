// SPDX-License-Identifier: Apache-2.0
// Run: all that a Trainer consists of; what its loops and its checkpoint code share.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ckptio/trainer/early_stopping.h"
#include "ckptio/trainer/trainer.h"
#include "trainer/fit_progress.h"
#include "trainer/metric_store.h"
#include "trainer/pending_saves.h"

namespace ckptio::detail {

// The run as it was before the first of the batches whose gradients are being accumulated.
struct AccumulationStart {
  FitProgress progress;
  MetricStore metrics;
};

struct Run {
  Trainer& trainer;
  TrainerOptions options;
  std::optional<std::int64_t> max_epochs;  // unset: no end
  std::shared_ptr<Strategy> strategy;      // with a CheckpointIO
  std::vector<std::shared_ptr<Callback>> callbacks;
  std::vector<std::shared_ptr<Logger>> loggers;

  TrainingModule* module = nullptr;  // borrowed; the module says when it goes
  OptimizersAndSchedulers optimizers_and_schedulers{};
  FitProgress progress{};
  MetricStore metrics{};
  PendingSaves saves{};
  std::optional<Dict> resume_rng{};        // from a checkpoint, until the loop takes it up
  std::optional<Dict> resume_gradients{};  // likewise; {name of a parameter: gradient}
  std::optional<AccumulationStart> accumulation_start{};
  // A batch that is not done has changed gradients of batches that are: a checkpoint goes back to before all of them.
  bool gradients_are_mixed = false;
  bool should_stop = false;
  std::optional<int> interrupted{};  // the signal's number

  std::string stage{};   // the name of the run that is on or was last
  bool running = false;  // one is on
  FitShape shape{};      // of the fit that is on
  bool sanity_checking = false;
  std::optional<std::int64_t> n_eval_batches{};
  std::optional<std::chrono::steady_clock::time_point> training_since{};
  std::string saving_path{};                      // while a checkpoint is made to be saved
  std::optional<std::string> ckpt_path{};         // what the run was restored from
  std::optional<std::string> sticky_ckpt_path{};  // Trainer::set_ckpt_path

  CheckpointIO& checkpoint_io() const { return *strategy->checkpoint_io(); }

  // After the batches of this epoch that are done; whether it ran already or not.
  bool validation_is_due() const noexcept {
    if (!trainer.validates_in_epoch()) return false;
    if (!shape.val_check_batches) return progress.all_batches_done;
    const bool over_all_epochs = options.check_val_every_n_epoch == 0;
    const std::int64_t n_done = over_all_epochs ? progress.total_batches : progress.batches_done;
    return progress.batches_done > 0 && n_done % *shape.val_check_batches == 0;
  }

  // Of training, that before a resume included.
  std::chrono::nanoseconds elapsed() const {
    return progress.elapsed + (training_since ? trainer.now() - *training_since : std::chrono::nanoseconds{});
  }

  // Where a checkpoint saved now goes back to; null: it goes on where the run is.
  const AccumulationStart* goes_back_to() const {
    return gradients_are_mixed && accumulation_start ? &*accumulation_start : nullptr;
  }

  // Those that wait for the next optimizer step: {name of a parameter: gradient}.
  Dict gradients() const;
  // Puts resume_gradients back. MismatchError for those of other parameters.
  void restore_gradients();

  // Tells the callbacks of saves that are over; of all, if `wait`. Throws the error of one that failed.
  void settle_saves(bool wait = false) {
    saves.settle(
        wait,
        [this](const std::string& path, const SaveTiming& timing) {
          call(&Callback::on_checkpoint_saved, path, timing);
        },
        [this](const std::string& path) { call(&Callback::on_checkpoint_save_failed, path); });
  }

  // A hook of the module, with the callbacks' around it as in Lightning: those that watch what it logs, and those that
  // save, come last.
  template <class... Parameters, class... OfModule, class... Arguments>
  void call_around(void (Callback::*hook)(Trainer&, TrainingModule&, Parameters...),
                   void (TrainingModule::*of_module)(OfModule...), Arguments&&... arguments) {
    for (const auto& callback : callbacks) {
      if (!runs_after_module(*callback)) (callback.get()->*hook)(trainer, *module, arguments...);
    }
    (module->*of_module)(arguments...);
    for (const auto& callback : callbacks) {
      if (runs_after_module(*callback)) (callback.get()->*hook)(trainer, *module, arguments...);
    }
  }

  static bool runs_after_module(const Callback& callback) {
    return callback.saves_checkpoints() || dynamic_cast<const EarlyStopping*>(&callback) != nullptr;
  }

  template <class... Parameters, class... Arguments>
  void call(void (Callback::*hook)(Trainer&, TrainingModule&, Parameters...), Arguments&&... arguments) {
    for (const auto& callback : callbacks) (callback.get()->*hook)(trainer, *module, arguments...);
  }
};

}  // namespace ckptio::detail
