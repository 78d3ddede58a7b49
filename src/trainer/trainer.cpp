// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/trainer.h"

#include <torch/utils.h>

#include <iostream>

#include "trainer/checkpoint_connector.h"
#include "trainer/fit_loop.h"
#include "trainer/options.h"
#include "trainer/validation_loop.h"

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
    if (run_->options.seed) torch::manual_seed(*run_->options.seed);
    run_->progress.n_train_batches = train.n_batches();
    run_->call(&Callback::setup, "fit");
    {
      detail::FitResume resume(*run_, ckpt_path);
      resume.restore_model();
      run_->optimizers_and_schedulers = module.configure_optimizers();
      detail::check(run_->optimizers_and_schedulers);
      run_->call(&Callback::on_fit_start);
      resume.restore_training();
    }
    run_->call_around(&Callback::on_train_start, &TrainingModule::on_train_start);
    detail::FitLoop(*run_, train, val).run();
    run_->call_around(&Callback::on_train_end, &TrainingModule::on_train_end);
    run_->call(&Callback::on_fit_end);
  });
}

std::map<std::string, double> Trainer::validate_source(TrainingModule& module, detail::BatchSource& source,
                                                       const std::optional<std::string>& ckpt_path) {
  // The run that module is in goes on to be what save_checkpoint saves, unless its weights are about to be others.
  if (run_->module != &module || ckpt_path) begin_run(module);
  run_stage("validate", [&] {
    run_->call(&Callback::setup, "validate");
    if (ckpt_path) detail::restore_for_validation(*run_, *ckpt_path);
    detail::run_validation(*run_, source);
  });
  return run_->metrics.validation_metrics();
}

void Trainer::begin_run(TrainingModule& module) {
  attach(module);
  run_->optimizers_and_schedulers = {};
  run_->progress = {};
  run_->metrics = {};
  run_->resume_rng.reset();
  run_->should_stop = false;
}

void Trainer::run_stage(const std::string& stage, const std::function<void()>& body) {
  try {
    body();
  } catch (...) {
    // Whatever goes wrong from here on, the caller gets the exception that ended the run.
    const std::exception_ptr error = std::current_exception();
    run_->metrics.abandon_step();
    try_to("on_exception", [&] { run_->call(&Callback::on_exception, error); });
    for (const auto& callback : run_->callbacks) {
      try_to("teardown of a callback", [&] { callback->teardown(*this, *run_->module, stage); });
    }
    try_to("teardown of the CheckpointIO", [&] { run_->checkpoint_io->teardown(); });
    throw;
  }
  teardown(stage);
}

void Trainer::teardown(const std::string& stage) {
  try {
    run_->call(&Callback::teardown, stage);
  } catch (...) {
    try_to("teardown of the CheckpointIO", [&] { run_->checkpoint_io->teardown(); });
    throw;
  }
  run_->checkpoint_io->teardown();
}

void Trainer::try_to(const char* what, const std::function<void()>& action) const {
  try {
    action();
  } catch (const std::exception& error) {
    print(std::string("after the run had failed, ") + what + " failed too: " + error.what());
  } catch (...) {
    print(std::string("after the run had failed, ") + what + " failed too");
  }
}

Checkpoint Trainer::dump_checkpoint(bool weights_only) {
  if (run_->module == nullptr) {
    throw MisconfigurationError(
        "Saving a checkpoint is only possible if a model is attached to the Trainer. Did you call "
        "`Trainer.save_checkpoint()` before calling `Trainer.{fit,validate}`?");
  }
  return detail::dump_checkpoint(*run_, weights_only);
}

void Trainer::save_checkpoint(const std::string& path, bool weights_only, const std::optional<Dict>& storage_options) {
  run_->checkpoint_io->save_checkpoint(dump_checkpoint(weights_only), path, storage_options);
}

void Trainer::print(std::string_view line) const {
  for (const auto& callback : run_->callbacks) callback->on_print(*this);
  if (run_->options.print) return run_->options.print(line);
  std::clog << line << '\n';
}

std::int64_t Trainer::current_epoch() const noexcept { return run_->progress.epoch; }

std::int64_t Trainer::global_step() const noexcept { return run_->progress.global_step; }

std::optional<std::int64_t> Trainer::n_train_batches() const noexcept {
  const auto n_batches = run_->progress.n_train_batches;
  const auto limit = run_->options.limit_train_batches;
  return n_batches && limit ? std::min(*n_batches, *limit) : n_batches;
}

const std::optional<std::int64_t>& Trainer::max_epochs() const noexcept { return run_->max_epochs; }

const std::map<std::string, double>& Trainer::callback_metrics() const noexcept { return run_->metrics.metrics(); }

std::map<std::string, double> Trainer::progress_bar_metrics() const { return run_->metrics.progress_bar_metrics(); }

void Trainer::stop() noexcept { run_->should_stop = true; }

bool Trainer::should_stop() const noexcept { return run_->should_stop; }

CheckpointIO& Trainer::checkpoint_io() const noexcept { return *run_->checkpoint_io; }

const TrainerOptions& Trainer::options() const noexcept { return run_->options; }

const std::vector<std::shared_ptr<Callback>>& Trainer::callbacks() const noexcept { return run_->callbacks; }

const OptimizersAndSchedulers& Trainer::optimizers_and_schedulers() const noexcept {
  return run_->optimizers_and_schedulers;
}

}  // namespace ckptio
