// SPDX-License-Identifier: Apache-2.0
// TrainingModule: a torch::nn::Module that knows how it is trained. Subclass it.
//
//   struct Net : ckptio::TrainingModule {
//     torch::Tensor training_step(const torch::data::Example<>& batch, int64_t batch_idx) {
//       auto loss = torch::nll_loss(forward(batch.data), batch.target);
//       log("loss", loss);
//       return loss;
//     }
//     void validation_step(const torch::data::Example<>& batch, int64_t batch_idx) { ... }  // test_step likewise
//     torch::Tensor predict_step(const torch::data::Example<>& batch, int64_t batch_idx) { ... }
//     ckptio::OptimizersAndSchedulers configure_optimizers() override { ... }
//   };
//
// training_step, validation_step, test_step and predict_step are no virtual functions, and only those are needed that
// the Trainer is asked to run, for the reason that torch::nn::Module::forward is
// none: you choose the type of the batch, and the Trainer calls them with what your loader gives, lvalues of
// torch::data::Example<> from a stacking DataLoader, std::vector<Example<>> from one that does not, or whatever your
// range holds. training_step returns the loss to minimise, a scalar; an undefined tensor skips the backward pass.
// An optimizer that evaluates its closure more than once (LBFGS) calls training_step as often.
//
// Threads: the Trainer calls everything here on the thread that called fit.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <optional>
#include <string>

#include "ckptio/trainer/optimizers_and_schedulers.h"
#include "ckptio/value.h"

namespace ckptio {

class Trainer;

// How a logged value becomes a metric. By default training_step's are taken step by step, validation_step's as the
// mean over the validation.
struct LogOptions {
  std::optional<bool> on_step{};             // the latest value counts
  std::optional<bool> on_epoch{};            // the mean over the epoch counts, weighted by batch_size
  bool prog_bar = false;                     // show it in the progress bar
  bool logger = true;                        // write it to the Trainer's loggers
  std::optional<std::int64_t> batch_size{};  // of this batch; by default found from the batch itself
};

class TrainingModule : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;
  // A copy (torch::nn::Module::clone) belongs to no Trainer.
  TrainingModule() = default;
  TrainingModule(const TrainingModule& other) : Module(other), hyper_parameters_(other.hyper_parameters_) {}
  TrainingModule& operator=(const TrainingModule&) = delete;
  ~TrainingModule() override;

  // Called once per fit, after a checkpoint's weights were loaded. The default implementation returns none: the loss
  // is computed and nothing is stepped.
  virtual OptimizersAndSchedulers configure_optimizers() { return {}; }

  // May add to the checkpoint before it is saved; last of all hooks.
  virtual void on_save_checkpoint(Checkpoint&) {}
  // May look at and change the checkpoint before it is applied; first of all hooks. Plugins that restored in place
  // have applied it already: then this sees what they returned, or, where they returned nothing, the restored state.
  virtual void on_load_checkpoint(Checkpoint&) {}

  virtual void on_train_start() {}
  virtual void on_train_end() {}
  virtual void on_train_epoch_start() {}
  virtual void on_train_epoch_end() {}
  virtual void on_train_batch_start(std::int64_t /*batch_idx*/) {}
  virtual void on_train_batch_end(const at::Tensor& /*loss*/, std::int64_t /*batch_idx*/) {}
  virtual void on_before_optimizer_step() {}
  virtual void on_validation_start() {}
  virtual void on_validation_epoch_start() {}
  // After the last batch: Trainer::callback_metrics() has the means, and more may be logged before callbacks look.
  virtual void on_validation_epoch_end() {}
  virtual void on_validation_end() {}
  virtual void on_test_start() {}
  virtual void on_test_epoch_start() {}
  virtual void on_test_epoch_end() {}
  virtual void on_test_end() {}
  virtual void on_predict_start() {}
  virtual void on_predict_epoch_start() {}
  virtual void on_predict_epoch_end() {}
  virtual void on_predict_end() {}

  // Whether names that only the checkpoint or only the module has are an error. The default implementation says yes.
  virtual bool strict_loading() const { return true; }

  // Records a value under `name` in Trainer::callback_metrics(). With both on_step and on_epoch: `name`,
  // `name_step` and `name_epoch`. Outside a training or validation step the value is taken as it is. Does nothing
  // for a module that no Trainer runs. `value` as a tensor: a scalar; reading it waits for its device.
  void log(const std::string& name, double value, const LogOptions& options = {});
  void log(const std::string& name, const torch::Tensor& value, const LogOptions& options = {});

  // What the module was made with; kept in the checkpoint as `hyper_parameters`, unless empty.
  void save_hyperparameters(Dict hyper_parameters) { hyper_parameters_ = std::move(hyper_parameters); }
  const Dict& hyper_parameters() const noexcept { return hyper_parameters_; }

  // The Trainer that runs or last ran this module. MisconfigurationError where there is none.
  Trainer& trainer() const;
  std::int64_t current_epoch() const;  // 0 without a Trainer
  std::int64_t global_step() const;    // 0 without a Trainer

 private:
  friend class Trainer;
  Trainer* trainer_ = nullptr;
  Dict hyper_parameters_;
};

}  // namespace ckptio
