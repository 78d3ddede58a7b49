// SPDX-License-Identifier: Apache-2.0
#include "trainer/fit_loop.h"

#include <algorithm>

#include "trainer/generators.h"
#include "trainer/validation_loop.h"

namespace ckptio::detail {
namespace {

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
  take_up_checkpoint();
  while (!done() && run_epoch()) {
  }
}

bool FitLoop::done() const {
  if (run_.should_stop) return true;
  // The end of an epoch that is under way belongs to it, whatever the limits say.
  if (progress_.stage != EpochStage::kNotBegun) return false;
  const auto max_steps = run_.options.max_steps;
  return (run_.max_epochs && progress_.epoch >= *run_.max_epochs) ||
         (max_steps >= 0 && progress_.global_step >= max_steps);
}

void FitLoop::take_up_checkpoint() {
  const auto set_generators = [](std::optional<Dict>& state) {
    if (state) restore_generators(*state);
    state.reset();
  };
  if (progress_.stage == EpochStage::kTraining) {
    if (progress_.epoch_rng) restore_generators(*progress_.epoch_rng);
    train_.begin();
    skip_batches();
    if (!progress_.fetch_rng) set_generators(run_.resume_rng);
    std::optional<Dict> fetch_rng = progress_.fetch_rng;
    set_generators(fetch_rng);
    fetch();
  }
  set_generators(run_.resume_rng);
  if (progress_.lacks_metrics) measure_lost_metrics();
}

void FitLoop::skip_batches() {
  for (std::int64_t i = 0; i < progress_.batches_done; ++i) {
    if (train_.next()) continue;
    throw MismatchError("resume in epoch " + std::to_string(progress_.epoch) + ": the checkpoint was saved after " +
                        std::to_string(progress_.batches_done) + " batches, the loader gives only " +
                        std::to_string(i));
  }
}

bool FitLoop::run_epoch() {
  if (progress_.stage == EpochStage::kNotBegun) begin_epoch();
  if (progress_.stage == EpochStage::kTraining) {
    if (!run_batches()) return false;
    validate();
  }
  if (progress_.stage == EpochStage::kValidated) {
    step_schedulers([this](const LRSchedulerConfig& config) { return ends_epoch(config) && needs_metric(config); });
    end_epoch();
  }
  ++progress_.epoch;
  progress_.batches_done = 0;
  progress_.epoch_rng.reset();
  progress_.fetch_rng.reset();
  progress_.stage = EpochStage::kNotBegun;
  return true;
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
  progress_.stage = EpochStage::kTraining;
  fetch();
}

bool FitLoop::run_batches() {
  const auto max_steps = run_.options.max_steps;
  while (has_batch_) {
    if (run_.should_stop || (max_steps >= 0 && progress_.global_step >= max_steps)) return false;
    run_batch();
  }
  if (run_.should_stop) return false;
  end_batches();
  run_.metrics.end_epoch(MetricStore::Stage::kTraining);
  return true;
}

void FitLoop::fetch() {
  const auto limit = run_.options.limit_train_batches;
  progress_.fetch_rng.reset();
  progress_.redo_rng = capture_generators();
  has_batch_ = (!limit || progress_.batches_done < *limit) && train_.next();
  progress_.fetch_rng = std::move(progress_.redo_rng);
  progress_.redo_rng.reset();
}

void FitLoop::run_batch() {
  const std::int64_t batch_idx = progress_.batches_done;
  progress_.redo_rng = capture_generators();
  run_.call(&Callback::on_train_batch_start, batch_idx);
  run_.metrics.begin_step(MetricStore::Stage::kTraining, train_.batch_size());
  const torch::Tensor loss = optimize(batch_idx);
  run_.metrics.end_step();
  ++progress_.batches_done;
  ++progress_.total_batches;
  ++progress_.global_step;
  fetch();
  step_schedulers([&](const LRSchedulerConfig& config) {
    return config.options.interval == "step" && progress_.batches_done % config.options.frequency == 0;
  });
  if (!has_batch_) end_batches();
  run_.call(&Callback::on_train_batch_end, loss, batch_idx);
}

torch::Tensor FitLoop::optimize(std::int64_t batch_idx) {
  const auto& optimizers = run_.optimizers_and_schedulers.optimizers;
  torch::Tensor first_loss;
  const auto closure = [&] {
    for (const auto& optimizer : optimizers) optimizer->zero_grad();
    const torch::Tensor loss = train_.step(batch_idx);
    if (loss.defined()) loss.backward();
    if (!first_loss.defined() && loss.defined()) first_loss = loss.detach();
    return loss;
  };
  if (optimizers.size() == 1) {
    optimizers.front()->step(closure);
  } else {
    closure();
    for (const auto& optimizer : optimizers) optimizer->step();
  }
  return first_loss;
}

// Without a batch left, and once only: the epoch's last hooks come after.
void FitLoop::end_batches() {
  if (progress_.all_batches_done) return;
  progress_.n_train_batches = progress_.batches_done;
  step_schedulers([this](const LRSchedulerConfig& config) { return ends_epoch(config) && !needs_metric(config); });
  progress_.all_batches_done = true;
}

void FitLoop::validate() {
  if (val_ != nullptr && (progress_.epoch + 1) % run_.options.check_val_every_n_epoch == 0) {
    progress_.redo_rng = capture_generators();
    run_validation(run_, *val_, [this](std::int64_t n_batches) {
      progress_.n_val_batches = n_batches;
      progress_.stage = EpochStage::kValidated;
      progress_.redo_rng.reset();
    });
  }
  progress_.stage = EpochStage::kValidated;
  progress_.redo_rng.reset();
}

void FitLoop::end_epoch() {
  progress_.stage = EpochStage::kEnded;
  run_.call_around(&Callback::on_train_epoch_end, &TrainingModule::on_train_epoch_end);
}

// A checkpoint that Lightning saved in on_validation_end or on_train_epoch_end, before the schedulers that need a
// metric had stepped: the metrics are had by validating again, and the step is made up for.
void FitLoop::measure_lost_metrics() {
  progress_.lacks_metrics = false;
  if (progress_.stage != EpochStage::kValidated && progress_.stage != EpochStage::kEnded) return;
  const auto pending = [this](const LRSchedulerConfig& config) { return ends_epoch(config) && needs_metric(config); };
  if (std::ranges::none_of(run_.optimizers_and_schedulers.lr_schedulers, pending)) return;
  if (val_ != nullptr) measure_validation(run_, *val_);
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
