// SPDX-License-Identifier: Apache-2.0
// Callback: code of yours that a Trainer runs at named moments. Subclass it and override what you need; the default
// implementations do nothing. The names and their order are Lightning's.
//
//   fit:  setup, [on_load_checkpoint, load_state_dict], on_fit_start,
//         [on_sanity_check_start, a validation, on_sanity_check_end], on_train_start,
//           per epoch:  on_train_epoch_start,
//                       per batch: on_train_batch_start, [training_step], on_before_zero_grad, on_before_backward,
//                                  on_after_backward, on_before_optimizer_step, [gradients are clipped, the optimizers
//                                  step], on_train_batch_end,
//                       where a validation is due: on_validation_start, on_validation_epoch_start,
//                           per batch: on_validation_batch_start, on_validation_batch_end,
//                           on_validation_epoch_end, on_validation_end,
//                       on_train_epoch_end,
//         on_train_end, on_fit_end, teardown
//   validate, test, predict:  setup, [...], on_<stage>_start, on_<stage>_epoch_start, ..., on_<stage>_end, teardown
//
// Callbacks run in the order in which the Trainer was given them, then the module's hook of that name, then
// EarlyStopping, which sees what that logged; those whose saves_checkpoints() is true run last, so that what they save
// holds what the others did.
// What a hook throws ends the run: on_exception, teardown, and the exception reaches the caller of fit unchanged.
//
// A checkpoint that a callback saves with an asynchronous plugin is still being copied when training goes on: from the
// save to the next on_before_optimizer_step a hook must not change parameters or optimizer states in place, unless it
// calls Trainer::wait_until_staged() first. A change all the same fails the save, or, if it comes before the plugin has
// looked at the tensor, goes unnoticed into the checkpoint.
// Threads: all hooks run on the thread that called fit.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <string>

#include "ckptio/save_future.h"
#include "ckptio/value.h"

namespace ckptio {

class Trainer;
class TrainingModule;

// What a load cost.
struct LoadTiming {
  std::int64_t n_bytes = 0;             // of the tensors' storages, each counted once
  std::chrono::nanoseconds loading{};   // in the plugin
  std::chrono::nanoseconds applying{};  // from there to the live objects; 0 for plugins that restore in place
};

class Callback {
 public:
  Callback() = default;
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  virtual ~Callback() = default;

  // First and last of every run, `stage` being "fit", "validate", "test" or "predict". teardown also runs after a
  // failed one.
  virtual void setup(Trainer&, TrainingModule&, const std::string& /*stage*/) {}
  virtual void teardown(Trainer&, TrainingModule&, const std::string& /*stage*/) {}

  virtual void on_fit_start(Trainer&, TrainingModule&) {}
  virtual void on_fit_end(Trainer&, TrainingModule&) {}
  virtual void on_train_start(Trainer&, TrainingModule&) {}
  virtual void on_train_end(Trainer&, TrainingModule&) {}

  // Not called again for an epoch that a resumed run continues in its middle.
  virtual void on_train_epoch_start(Trainer&, TrainingModule&) {}
  // After the epoch's validation and the schedulers' step. Not called for an epoch that max_steps or
  // Trainer::stop() ended in its middle: such an epoch goes on when the run is resumed.
  virtual void on_train_epoch_end(Trainer&, TrainingModule&) {}

  virtual void on_train_batch_start(Trainer&, TrainingModule&, std::int64_t /*batch_idx*/) {}
  // `loss`: what training_step returned, detached; undefined if it returned none. If gradients are not still being
  // accumulated, the optimizers have stepped and global_step() counts it; the next batch is fetched.
  virtual void on_train_batch_end(Trainer&, TrainingModule&, const at::Tensor& /*loss*/, std::int64_t /*batch_idx*/) {}

  virtual void on_before_zero_grad(Trainer&, TrainingModule&) {}
  // `loss`: what is differentiated.
  virtual void on_before_backward(Trainer&, TrainingModule&, const at::Tensor& /*loss*/) {}
  virtual void on_after_backward(Trainer&, TrainingModule&) {}
  // Gradients are whole, and not clipped yet.
  virtual void on_before_optimizer_step(Trainer&, TrainingModule&) {}

  virtual void on_sanity_check_start(Trainer&, TrainingModule&) {}
  virtual void on_sanity_check_end(Trainer&, TrainingModule&) {}

  virtual void on_validation_start(Trainer&, TrainingModule&) {}
  virtual void on_validation_epoch_start(Trainer&, TrainingModule&) {}
  virtual void on_validation_batch_start(Trainer&, TrainingModule&, std::int64_t /*batch_idx*/) {}
  virtual void on_validation_batch_end(Trainer&, TrainingModule&, std::int64_t /*batch_idx*/) {}
  // From here on Trainer::callback_metrics() has the means over the validation.
  virtual void on_validation_epoch_end(Trainer&, TrainingModule&) {}
  virtual void on_validation_end(Trainer&, TrainingModule&) {}

  virtual void on_test_start(Trainer&, TrainingModule&) {}
  virtual void on_test_epoch_start(Trainer&, TrainingModule&) {}
  virtual void on_test_batch_start(Trainer&, TrainingModule&, std::int64_t /*batch_idx*/) {}
  virtual void on_test_batch_end(Trainer&, TrainingModule&, std::int64_t /*batch_idx*/) {}
  virtual void on_test_epoch_end(Trainer&, TrainingModule&) {}
  virtual void on_test_end(Trainer&, TrainingModule&) {}

  virtual void on_predict_start(Trainer&, TrainingModule&) {}
  virtual void on_predict_epoch_start(Trainer&, TrainingModule&) {}
  virtual void on_predict_batch_start(Trainer&, TrainingModule&, std::int64_t /*batch_idx*/) {}
  virtual void on_predict_batch_end(Trainer&, TrainingModule&, std::int64_t /*batch_idx*/) {}
  virtual void on_predict_epoch_end(Trainer&, TrainingModule&) {}
  virtual void on_predict_end(Trainer&, TrainingModule&) {}

  // SIGTERM or SIGINT came: the step, or the validation, that it came in is done, and training ends without an error.
  // Callbacks that save checkpoints do it here. `signal`: its number.
  virtual void on_interrupt(Trainer&, TrainingModule&, int /*signal*/) {}

  // A run ends by `error`. What this hook itself throws is reported and dropped.
  virtual void on_exception(Trainer&, TrainingModule&, const std::exception_ptr& /*error*/) {}

  // Before Trainer::print writes a line: whoever draws on the terminal makes room.
  virtual void on_print(const Trainer&) {}

  // May add to the checkpoint before it is saved, and look at the one being loaded.
  virtual void on_save_checkpoint(Trainer&, TrainingModule&, Checkpoint&) {}
  virtual void on_load_checkpoint(Trainer&, TrainingModule&, const Checkpoint&) {}

  // A checkpoint that the Trainer was told to save can be loaded, and survives a power cut where the plugin promises
  // that; or saving it failed in the background, and its error ends the run after this, unless its future has thrown
  // it (what the call itself throws is not told here). Called between other hooks, in the order in which the saves were
  // begun: of a plugin that saves while it is called, right after the hook that saved.
  virtual void on_checkpoint_saved(Trainer&, TrainingModule&, const std::string& /*path*/, const SaveTiming&) {}
  virtual void on_checkpoint_save_failed(Trainer&, TrainingModule&, const std::string& /*path*/) {}
  // All of a checkpoint was applied.
  virtual void on_checkpoint_loaded(Trainer&, TrainingModule&, const std::string& /*path*/, const LoadTiming&) {}

  // What is to come back after a resume; kept in the checkpoint's `callbacks` under state_key(). Empty: nothing is
  // kept, and load_state_dict is not called.
  virtual Dict state_dict() const { return {}; }
  virtual void load_state_dict(const Dict& /*state*/) {}

  // Tells stateful callbacks of one Trainer apart. By default the name of the class.
  virtual std::string state_key() const;

  // True for callbacks that save checkpoints: they run after the others.
  virtual bool saves_checkpoints() const { return false; }
};

}  // namespace ckptio
