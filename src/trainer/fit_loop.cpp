// SPDX-License-Identifier: Apache-2.0
#include "trainer/fit_loop.h"

#include <algorithm>
#include <utility>

#include "trainer/checkpoint_connector.h"
#include "trainer/clip_gradients.h"
#include "trainer/evaluation_loop.h"
#include "trainer/generators.h"
#include "trainer/log_metrics.h"
#include "trainer/resume_loader.h"

namespace ckptio::detail {
namespace {

constexpr const char* kNoBatches = "`Trainer.fit` stopped: No training batches.";

bool needs_metric(const LRSchedulerConfig& config) { return config.scheduler->requires_metric(); }

std::optional<double> monitored_metric(const Run& run, const LRSchedulerConfig& config) {
  if (!needs_metric(config)) return std::nullopt;
  const auto& metrics = run.metrics.metrics();
  if (const auto found = metrics.find(*config.options.monitor); found != metrics.end()) return found->second;
  std::string names;
  for (const auto& [name, value] : metrics) names += (names.empty() ? "" : ", ") + name;
  throw MisconfigurationError("the learning rate scheduler's monitor '" + *config.options.monitor +
                              "' is no logged metric; available are: [" + names + "]. HINT: Did you call `log(\"" +
                              *config.options.monitor + "\", value)`?");
}

}  // namespace

void FitLoop::run() {
  if (run_.shape.n_train_batches == 0) return run_.trainer.print(kNoBatches);
  take_up_checkpoint();
  reserve_for_saves(run_);
  while (!done() && run_epoch()) {
  }
}

bool FitLoop::stop_asked() const {
  if (run_.interrupted) return true;
  return run_.should_stop && progress_.epoch >= run_.options.min_epochs &&
         progress_.global_step >= run_.options.min_steps;
}

bool FitLoop::must_stop() const {
  const auto max_steps = run_.options.max_steps;
  return stop_asked() || (max_steps >= 0 && progress_.global_step >= max_steps);
}

bool FitLoop::done() const {
  // The end of an epoch that is under way belongs to it, whatever the limits say.
  if (progress_.stage != EpochStage::kNotBegun) return stop_asked();
  return must_stop() || (run_.max_epochs && progress_.epoch >= *run_.max_epochs);
}

void FitLoop::watch_time_and_signals() {
  run_.settle_saves();
  if (!run_.interrupted) run_.interrupted = signals_.caught();
  const auto& max_time = run_.options.max_time;
  if (!max_time || run_.should_stop || run_.elapsed() < *max_time) return;
  run_.trainer.print("Time limit reached. Signaling Trainer to stop.");
  run_.should_stop = true;
}

void FitLoop::take_up_checkpoint() {
  run_.restore_gradients();
  const auto set_generators = [](std::optional<Dict>& state) {
    if (state) restore_generators(*state);
    state.reset();
  };
  resume_loader(run_, train_);
  if (progress_.stage == EpochStage::kTraining) {
    if (!progress_.fetch_rng) set_generators(run_.resume_rng);
    std::optional<Dict> fetch_rng = progress_.fetch_rng;
    set_generators(fetch_rng);
    fetch();
  }
  set_generators(run_.resume_rng);
  if (progress_.lacks_metrics) measure_lost_metrics();
}

bool FitLoop::run_epoch() {
  if (progress_.stage == EpochStage::kNotBegun) begin_epoch();
  if (progress_.stage == EpochStage::kTraining) {
    if (!run_batches()) return false;
    validate_at_end();
  }
  if (progress_.stage == EpochStage::kValidated) {
    step_schedulers([this](const LRSchedulerConfig& config) { return ends_epoch(config) && needs_metric(config); });
    end_epoch();
  }
  const bool had_batches = progress_.batches_done > 0;
  progress_.to_next_epoch();
  watch_time_and_signals();
  if (had_batches || run_.max_epochs) return true;
  // Steps or time alone would never end this.
  run_.trainer.print(kNoBatches);
  return false;
}

void FitLoop::begin_epoch() {
  progress_.redo_rng = capture_generators();
  run_.metrics.begin_epoch(MetricStore::Stage::kTraining);
  run_.call_around(&Callback::on_train_epoch_start, &TrainingModule::on_train_epoch_start);
  progress_.epoch_rng = capture_generators();
  train_.begin();
  progress_.all_batches_done = false;
  progress_.n_val_batches = 0;
  progress_.scheduler_steps = 0;
  progress_.epoch_steps = 0;
  progress_.validated_batches = 0;
  progress_.stage = EpochStage::kTraining;
  fetch();
}

bool FitLoop::run_batches() {
  while (has_batch_) {
    validate_in_epoch();
    if (must_stop()) return false;
    run_batch();
    watch_time_and_signals();
  }
  if (stop_asked()) return false;
  end_batches();
  run_.metrics.end_epoch(MetricStore::Stage::kTraining);
  return true;
}

void FitLoop::fetch() {
  const auto& limit = run_.shape.n_train_batches;
  progress_.fetch_rng.reset();
  progress_.redo_rng = capture_generators();
  if (train_.is_stateful()) progress_.loader_state = train_.state_dict();
  has_batch_ = (!limit || progress_.batches_done < *limit) && train_.next();
  progress_.fetch_rng = std::move(progress_.redo_rng);
  progress_.redo_rng.reset();
}

void FitLoop::run_batch() {
  const std::int64_t batch_idx = progress_.batches_done;
  progress_.redo_rng = capture_generators();
  if (run_.options.accumulate_grad_batches > 1 && progress_.accumulated_batches == 0) {
    run_.accumulation_start = {progress_, run_.metrics};
  }
  run_.call_around(&Callback::on_train_batch_start, &TrainingModule::on_train_batch_start, batch_idx);
  run_.metrics.begin_step(MetricStore::Stage::kTraining, train_.batch_size());
  const torch::Tensor loss = run_optimizers(batch_idx);
  run_.metrics.end_step();
  ++progress_.batches_done;
  ++progress_.total_batches;
  const auto step_schedulers_of_steps = [this] {
    step_schedulers([this](const LRSchedulerConfig& config) {
      return config.options.interval == "step" && progress_.batches_done % config.options.frequency == 0;
    });
  };
  // Before the fetch: where that throws, this batch is done, and nothing of it is left for a resume to do.
  if (progress_.accumulated_batches == 0) step_schedulers_of_steps();
  fetch();
  if (!has_batch_ && progress_.accumulated_batches > 0) {
    run_.gradients_are_mixed = true;
    before_optimizer_step();
    step_optimizers();
    step_schedulers_of_steps();
  }
  const bool stepped = progress_.accumulated_batches == 0;
  if (!has_batch_) end_batches();
  log_step_metrics(run_, stepped);
  // Before these hooks save again: what they remove because of a save that is over must not wait for the next one.
  run_.settle_saves();
  run_.call_around(&Callback::on_train_batch_end, &TrainingModule::on_train_batch_end, loss, batch_idx);
}

// Forward, backward, and, unless gradients are to be accumulated further, the optimizers' step.
torch::Tensor FitLoop::run_optimizers(std::int64_t batch_idx) {
  const auto& optimizers = run_.optimizers_and_schedulers.optimizers;
  const bool steps = progress_.accumulated_batches + 1 == run_.options.accumulate_grad_batches;
  torch::Tensor first_loss;
  const auto closure = [&] {
    const torch::Tensor loss = backward(batch_idx);
    if (!first_loss.defined() && loss.defined()) first_loss = loss.detach();
    if (steps) before_optimizer_step();
    return loss;
  };
  if (steps && optimizers.size() == 1) {
    optimizers.front()->step(closure);
    end_step();
  } else {
    closure();
    if (steps) {
      step_optimizers();
    } else {
      ++progress_.accumulated_batches;
      run_.gradients_are_mixed = false;
    }
  }
  return first_loss;
}

torch::Tensor FitLoop::backward(std::int64_t batch_idx) {
  torch::Tensor loss = train_.step(batch_idx);
  if (progress_.accumulated_batches == 0) {
    run_.call(&Callback::on_before_zero_grad);
    for (const auto& optimizer : run_.optimizers_and_schedulers.optimizers) optimizer->zero_grad();
  }
  if (loss.defined()) {
    const std::int64_t n = run_.options.accumulate_grad_batches;
    const torch::Tensor part = n == 1 ? loss : loss / n;
    run_.call(&Callback::on_before_backward, part);
    run_.gradients_are_mixed = progress_.accumulated_batches > 0;
    part.backward();
    run_.call(&Callback::on_after_backward);
  }
  return loss;
}

void FitLoop::before_optimizer_step() {
  run_.trainer.wait_until_staged();
  run_.call_around(&Callback::on_before_optimizer_step, &TrainingModule::on_before_optimizer_step);
  run_.trainer.wait_until_staged();  // what these hooks saved
  clip_gradients(run_.options, run_.optimizers_and_schedulers);
}

void FitLoop::step_optimizers() {
  for (const auto& optimizer : run_.optimizers_and_schedulers.optimizers) optimizer->step();
  end_step();
}

void FitLoop::end_step() {
  progress_.accumulated_batches = 0;
  run_.gradients_are_mixed = false;
  ++progress_.global_step;
  ++progress_.epoch_steps;
  if (std::exchange(is_first_step_, false)) reserve_for_saves(run_);  // the optimizers have made their moments now
}

// Without a batch left, and once only: the epoch's last hooks come after.
void FitLoop::end_batches() {
  if (progress_.all_batches_done) return;
  progress_.n_train_batches = progress_.batches_done;
  step_schedulers([this](const LRSchedulerConfig& config) { return ends_epoch(config) && !needs_metric(config); });
  progress_.all_batches_done = true;
}

void FitLoop::validate_in_epoch() {
  const std::int64_t done = progress_.batches_done;
  if (done == progress_.validated_batches || !run_.validation_is_due()) return;
  progress_.redo_rng = capture_generators();
  run_evaluation(run_, "validate", *val_, run_.shape.n_val_batches, [&](std::int64_t n_batches) {
    progress_.n_val_batches = n_batches;
    progress_.validated_batches = done;
    progress_.redo_rng.reset();
  });
  progress_.redo_rng.reset();
  watch_time_and_signals();
}

void FitLoop::validate_at_end() {
  if (run_.validation_is_due()) {
    progress_.redo_rng = capture_generators();
    run_evaluation(run_, "validate", *val_, run_.shape.n_val_batches, [this](std::int64_t n_batches) {
      progress_.n_val_batches = n_batches;
      progress_.validated_batches = progress_.batches_done;
      progress_.stage = EpochStage::kValidated;
      progress_.redo_rng.reset();
    });
    run_.settle_saves();
  }
  progress_.stage = EpochStage::kValidated;
  progress_.redo_rng.reset();
}

void FitLoop::end_epoch() {
  progress_.stage = EpochStage::kEnded;
  log_epoch_metrics(run_);
  run_.call_around(&Callback::on_train_epoch_end, &TrainingModule::on_train_epoch_end);
}

// A checkpoint that Lightning saved in on_validation_end or on_train_epoch_end, before the schedulers that need a
// metric had stepped: the metrics are had by validating again, and the step is made up for.
void FitLoop::measure_lost_metrics() {
  progress_.lacks_metrics = false;
  if (progress_.stage != EpochStage::kValidated && progress_.stage != EpochStage::kEnded) return;
  const auto pending = [this](const LRSchedulerConfig& config) { return ends_epoch(config) && needs_metric(config); };
  if (std::ranges::none_of(run_.optimizers_and_schedulers.lr_schedulers, pending)) return;
  if (val_ != nullptr) measure_validation(run_, *val_, run_.shape.n_val_batches);
  step_schedulers([&](const LRSchedulerConfig& config) {
    if (!pending(config)) return false;
    if (run_.metrics.metrics().contains(*config.options.monitor)) return true;
    run_.trainer.print("The checkpoint does not hold the metric '" + *config.options.monitor +
                       "': the learning rate scheduler that watches it makes no step for epoch " +
                       std::to_string(progress_.epoch) + ".");
    return false;
  });
  if (progress_.stage == EpochStage::kValidated) end_epoch();
}

void FitLoop::step_schedulers(const std::function<bool(const LRSchedulerConfig&)>& wanted) {
  for (const LRSchedulerConfig& config : run_.optimizers_and_schedulers.lr_schedulers) {
    if (!wanted(config)) continue;
    config.scheduler->step(monitored_metric(run_, config));
    ++progress_.scheduler_steps;
    ++progress_.total_scheduler_steps;
  }
}

bool FitLoop::ends_epoch(const LRSchedulerConfig& config) const {
  return config.options.interval == "epoch" && (progress_.epoch + 1) % config.options.frequency == 0;
}

}  // namespace ckptio::detail
