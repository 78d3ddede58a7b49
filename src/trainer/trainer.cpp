// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/trainer.h"

#include <torch/utils.h>

#include <iostream>

#include "trainer/checkpoint_connector.h"
#include "trainer/end_of_run.h"
#include "trainer/evaluation_loop.h"
#include "trainer/fit_loop.h"
#include "trainer/fit_shape.h"
#include "trainer/options.h"
#include "trainer/stable_tensors.h"

namespace ckptio {

using detail::Run;

Trainer::Trainer() : Trainer(TrainerOptions{}) {}

Trainer::Trainer(TrainerOptions options) : run_(detail::make_run(*this, std::move(options))) {}

Trainer::~Trainer() {
  if (run_->module != nullptr) run_->module->trainer_ = nullptr;
}

void Trainer::attach(TrainingModule& module) {
  if (run_->module != nullptr) run_->module->trainer_ = nullptr;
  if (module.trainer_ != nullptr) module.trainer_->run_->module = nullptr;
  module.trainer_ = this;
  run_->module = &module;
}

void Trainer::fit_sources(TrainingModule& module, detail::BatchSource& train, detail::BatchSource* val,
                          const std::optional<std::string>& ckpt_path) {
  begin_run(module);
  run_stage("fit", [&] {
    const detail::SignalGuard signals(run_->options.handle_signals);
    if (run_->options.seed) torch::manual_seed(*run_->options.seed);
    run_->shape = detail::shape_of(run_->options, train, val);
    run_->progress.n_train_batches = train.n_batches();
    run_->call(&Callback::setup, "fit");
    for (const auto& logger : run_->loggers) {
      if (!module.hyper_parameters().empty()) logger->log_hyperparams(module.hyper_parameters());
    }
    {
      detail::FitResume resume(*run_, detail::find_ckpt_path(*run_, ckpt_path));
      resume.restore_model();
      run_->optimizers_and_schedulers = module.configure_optimizers();
      detail::check(run_->options, run_->optimizers_and_schedulers);
      run_->call(&Callback::on_fit_start);
      resume.restore_training();
    }
    if (run_->shape.validates) detail::run_sanity_check(*run_, *val);
    run_->training_since = now();
    run_->call_around(&Callback::on_train_start, &TrainingModule::on_train_start);
    detail::FitLoop(*run_, train, val, signals).run();
    if (run_->interrupted) run_->call(&Callback::on_interrupt, *run_->interrupted);
    run_->call_around(&Callback::on_train_end, &TrainingModule::on_train_end);
    run_->settle_saves(/*wait=*/true);
    run_->call(&Callback::on_fit_end);
    // One that came too late to end anything is told all the same.
    if (!run_->interrupted) run_->interrupted = signals.caught();
  });
}

std::map<std::string, double> Trainer::evaluate_source(const std::string& stage, TrainingModule& module,
                                                       detail::BatchSource& source,
                                                       const std::optional<std::string>& ckpt_path) {
  run_->stage = stage;
  // The run that module is in goes on to be what save_checkpoint saves, unless its weights are about to be others.
  if (run_->module != &module || ckpt_path || run_->sticky_ckpt_path) begin_run(module);
  run_stage(stage, [&] {
    run_->call(&Callback::setup, stage);
    if (const auto path = detail::find_ckpt_path(*run_, ckpt_path)) detail::restore_for_evaluation(*run_, *path);
    detail::run_evaluation(*run_, stage, source, detail::limit_of(run_->options, stage, source), [](std::int64_t) {});
  });
  return run_->metrics.evaluation_metrics();
}

void Trainer::begin_run(TrainingModule& module) {
  attach(module);
  run_->optimizers_and_schedulers = {};
  run_->progress = {};
  run_->metrics = {};
  run_->resume_rng.reset();
  run_->resume_gradients.reset();
  run_->accumulation_start.reset();
  run_->gradients_are_mixed = false;
  run_->should_stop = false;
  run_->interrupted.reset();
  run_->training_since.reset();
  run_->ckpt_path.reset();
  run_->shape = {};
}

void Trainer::run_stage(const std::string& stage, const std::function<void()>& body) {
  run_->stage = stage;
  const detail::RunningGuard running(*run_);
  try {
    body();
  } catch (...) {
    // Whatever goes wrong from here on, the caller gets the exception that ended the run.
    const std::exception_ptr error = std::current_exception();
    run_->metrics.abandon_step();
    detail::end_failed_run(*run_, error);
    throw;
  }
  teardown(stage);
}

void Trainer::teardown(const std::string& stage) {
  try {
    run_->settle_saves(/*wait=*/true);
    run_->call(&Callback::teardown, stage);
    for (const auto& logger : run_->loggers) logger->finalize(run_->interrupted ? "interrupted" : "success");
  } catch (...) {
    detail::try_to(*run_, "teardown of the CheckpointIO", [&] { checkpoint_io().teardown(); });
    throw;
  }
  checkpoint_io().teardown();
}

void Trainer::require_module() const {
  if (run_->module == nullptr) {
    throw MisconfigurationError(
        "Saving a checkpoint is only possible if a model is attached to the Trainer. Did you call "
        "`Trainer.save_checkpoint()` before calling `Trainer.{fit,validate,test,predict}`?");
  }
}

Checkpoint Trainer::dump_checkpoint(bool weights_only) {
  require_module();
  return detail::dump_checkpoint(*run_, weights_only);
}

void Trainer::save_checkpoint(const std::string& path, bool weights_only, const std::optional<Dict>& storage_options) {
  if (!run_->running) run_->settle_saves();  // an error of one before comes first
  async_save_checkpoint(path, weights_only, storage_options);
  wait_until_staged();
  if (!run_->running) run_->settle_saves();
}

SaveFuture Trainer::async_save_checkpoint(const std::string& path, bool weights_only,
                                          const std::optional<Dict>& storage_options) {
  require_module();
  run_->saving_path = path;
  try {
    Checkpoint checkpoint = dump_checkpoint(weights_only);
    run_->saving_path.clear();
    if (checkpoint_io().saves_asynchronously()) detail::copy_unstable_tensors(*run_, checkpoint);
    const SaveFuture save = checkpoint_io().hand_over_checkpoint(std::move(checkpoint), path, storage_options);
    run_->saves.add(save);
    return save;
  } catch (...) {
    run_->saving_path.clear();
    throw;
  }
}

void Trainer::wait_until_staged() noexcept { run_->saves.wait_until_staged(); }

void Trainer::remove_checkpoint(const std::string& path) { checkpoint_io().remove_checkpoint(path); }

void Trainer::set_ckpt_path(std::optional<std::string> ckpt_path) { run_->sticky_ckpt_path = std::move(ckpt_path); }

const std::optional<std::string>& Trainer::ckpt_path() const noexcept { return run_->ckpt_path; }

void Trainer::print(std::string_view line) const {
  for (const auto& callback : run_->callbacks) callback->on_print(*this);
  if (run_->options.print) return run_->options.print(line);
  std::clog << line << '\n';
}

std::int64_t Trainer::current_epoch() const noexcept { return run_->progress.epoch; }

std::int64_t Trainer::global_step() const noexcept { return run_->progress.global_step; }

std::optional<std::int64_t> Trainer::n_train_batches() const noexcept {
  const auto& n_batches = run_->progress.n_train_batches;
  const auto& limit = run_->shape.n_train_batches;
  return n_batches && limit ? std::min(*n_batches, *limit) : n_batches;
}

std::optional<std::int64_t> Trainer::n_eval_batches() const noexcept { return run_->n_eval_batches; }

bool Trainer::is_last_batch() const noexcept {
  const auto& progress = run_->progress;
  if (progress.stage != detail::EpochStage::kTraining) return progress.stage != detail::EpochStage::kNotBegun;
  if (progress.all_batches_done) return true;
  const auto n_batches = n_train_batches();
  return progress.redo_rng && n_batches && progress.batches_done + 1 >= *n_batches;
}

bool Trainer::validates_in_epoch() const noexcept {
  const std::int64_t every = run_->options.check_val_every_n_epoch;
  return run_->shape.validates && (every == 0 || (run_->progress.epoch + 1) % every == 0);
}

bool Trainer::validates_at_epoch_end() const noexcept {
  return run_->shape.validates && !run_->shape.val_check_batches;
}

bool Trainer::has_validation() const noexcept { return run_->shape.validates; }

bool Trainer::validates_after_batch() const noexcept { return run_->validation_is_due(); }

const std::string& Trainer::saving_path() const noexcept { return run_->saving_path; }

bool Trainer::sanity_checking() const noexcept { return run_->sanity_checking; }

const std::string& Trainer::stage() const noexcept { return run_->stage; }

const std::optional<int>& Trainer::interrupted() const noexcept { return run_->interrupted; }

std::chrono::steady_clock::time_point Trainer::now() const {
  return run_->options.clock ? run_->options.clock() : std::chrono::steady_clock::now();
}

Strategy& Trainer::strategy() const noexcept { return *run_->strategy; }

const std::vector<std::shared_ptr<Logger>>& Trainer::loggers() const noexcept { return run_->loggers; }

const std::optional<std::int64_t>& Trainer::max_epochs() const noexcept { return run_->max_epochs; }

const std::map<std::string, double>& Trainer::callback_metrics() const noexcept { return run_->metrics.metrics(); }

std::map<std::string, double> Trainer::progress_bar_metrics() const { return run_->metrics.progress_bar_metrics(); }

void Trainer::stop() noexcept { run_->should_stop = true; }

bool Trainer::should_stop() const noexcept { return run_->should_stop; }

CheckpointIO& Trainer::checkpoint_io() const noexcept { return run_->checkpoint_io(); }

const TrainerOptions& Trainer::options() const noexcept { return run_->options; }

const std::vector<std::shared_ptr<Callback>>& Trainer::callbacks() const noexcept { return run_->callbacks; }

const OptimizersAndSchedulers& Trainer::optimizers_and_schedulers() const noexcept {
  return run_->optimizers_and_schedulers;
}

}  // namespace ckptio
