// SPDX-License-Identifier: Apache-2.0
#include "trainer/fit_loop.h"

#include "trainer/generators.h"
#include "trainer/validation_loop.h"

namespace ckptio::detail {
namespace {

std::optional<double> monitored_metric(const Run& run, const LRSchedulerConfig& config) {
  if (!config.options.monitor) return std::nullopt;
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
  if (progress_.stage == EpochStage::kTraining) {
    if (progress_.epoch_rng) restore_generators(*progress_.epoch_rng);
    train_.begin();
    for (std::int64_t i = 0; i < progress_.batches_done; ++i) {
      if (!train_.next()) {
        throw MismatchError("resume in epoch " + std::to_string(progress_.epoch) + ": the checkpoint was saved after " +
                            std::to_string(progress_.batches_done) + " batches, the loader gives only " +
                            std::to_string(i));
      }
    }
  }
  if (run_.resume_rng) restore_generators(*run_.resume_rng);
  run_.resume_rng.reset();
}

bool FitLoop::run_epoch() {
  if (progress_.stage == EpochStage::kNotBegun) begin_epoch();
  if (progress_.stage == EpochStage::kTraining) {
    if (!run_batches()) return false;
    validate();
  }
  if (progress_.stage == EpochStage::kValidated) {
    step_schedulers("epoch", progress_.epoch + 1);
    progress_.stage = EpochStage::kEnded;
    run_.call_around(&Callback::on_train_epoch_end, &TrainingModule::on_train_epoch_end);
  }
  ++progress_.epoch;
  progress_.batches_done = 0;
  progress_.epoch_rng.reset();
  progress_.stage = EpochStage::kNotBegun;
  return true;
}

void FitLoop::begin_epoch() {
  progress_.redo_rng = capture_generators();
  run_.metrics.begin_epoch(MetricStore::Stage::kTraining);
  run_.call_around(&Callback::on_train_epoch_start, &TrainingModule::on_train_epoch_start);
  progress_.epoch_rng = capture_generators();
  train_.begin();
  progress_.redo_rng.reset();
  progress_.stage = EpochStage::kTraining;
}

bool FitLoop::run_batches() {
  const auto max_steps = run_.options.max_steps;
  while (!run_.should_stop) {
    progress_.redo_rng = capture_generators();
    if (!next_batch()) {
      progress_.n_train_batches = progress_.batches_done;
      run_.metrics.end_epoch(MetricStore::Stage::kTraining);
      return true;
    }
    if (max_steps >= 0 && progress_.global_step >= max_steps) {
      restore_generators(*progress_.redo_rng);  // the batch was fetched to see whether the epoch goes on
      progress_.redo_rng.reset();
      return false;
    }
    run_batch();
  }
  return false;
}

bool FitLoop::next_batch() {
  const auto limit = run_.options.limit_train_batches;
  return (!limit || progress_.batches_done < *limit) && train_.next();
}

void FitLoop::run_batch() {
  const std::int64_t batch_idx = progress_.batches_done;
  run_.call(&Callback::on_train_batch_start, batch_idx);
  run_.metrics.begin_step(MetricStore::Stage::kTraining, train_.batch_size());
  const torch::Tensor loss = optimize(batch_idx);
  run_.metrics.end_step();
  ++progress_.batches_done;
  ++progress_.global_step;
  progress_.redo_rng.reset();
  step_schedulers("step", progress_.global_step);
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

void FitLoop::validate() {
  if (val_ != nullptr && (progress_.epoch + 1) % run_.options.check_val_every_n_epoch == 0) {
    progress_.redo_rng = capture_generators();
    run_validation(run_, *val_, [this] {
      progress_.stage = EpochStage::kValidated;
      progress_.redo_rng.reset();
    });
  }
  progress_.stage = EpochStage::kValidated;
  progress_.redo_rng.reset();
}

void FitLoop::step_schedulers(const std::string& interval, std::int64_t n_done) {
  for (const LRSchedulerConfig& config : run_.optimizers_and_schedulers.lr_schedulers) {
    if (config.options.interval == interval && n_done % config.options.frequency == 0) {
      config.scheduler->step(monitored_metric(run_, config));
    }
  }
}

}  // namespace ckptio::detail
