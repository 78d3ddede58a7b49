// SPDX-License-Identifier: Apache-2.0
// Callback: code of yours that a Trainer runs at named moments. Subclass it and override what you need; the default
// implementations do nothing. The names and their order are Lightning's.
//
//   fit:  setup, [on_load_checkpoint, load_state_dict], on_fit_start, on_train_start,
//           per epoch:  on_train_epoch_start,
//                       per batch: on_train_batch_start, on_train_batch_end,
//                       on_validation_start, on_validation_batch_end per batch, on_validation_end,
//                       on_train_epoch_end,
//         on_train_end, on_fit_end, teardown
//   validate:  setup, [...], on_validation_start, ..., on_validation_end, teardown
//
// Callbacks run in the order in which the Trainer was given them, then the module's hook of that name; those whose
// saves_checkpoints() is true run last, so that what they save holds what the others did.
// What a hook throws ends the run: on_exception, teardown, and the exception reaches the caller of fit unchanged.
// Threads: all hooks run on the thread that called fit.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <exception>
#include <string>

#include "ckptio/value.h"

namespace ckptio {

class Trainer;
class TrainingModule;

class Callback {
 public:
  Callback() = default;
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  virtual ~Callback() = default;

  // First and last of every run, `stage` being "fit" or "validate". teardown also runs after a failed one.
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
  // `loss`: what training_step returned, detached; undefined if it returned none. The optimizers have stepped,
  // global_step() counts this step, and the next batch is fetched.
  virtual void on_train_batch_end(Trainer&, TrainingModule&, const at::Tensor& /*loss*/, std::int64_t /*batch_idx*/) {}

  virtual void on_validation_start(Trainer&, TrainingModule&) {}
  virtual void on_validation_batch_end(Trainer&, TrainingModule&, std::int64_t /*batch_idx*/) {}
  // Trainer::callback_metrics() has the means over the validation.
  virtual void on_validation_end(Trainer&, TrainingModule&) {}

  // A run ends by `error`. What this hook itself throws is reported and dropped.
  virtual void on_exception(Trainer&, TrainingModule&, const std::exception_ptr& /*error*/) {}

  // Before Trainer::print writes a line: whoever draws on the terminal makes room.
  virtual void on_print(const Trainer&) {}

  // May add to the checkpoint before it is saved, and look at the one being loaded.
  virtual void on_save_checkpoint(Trainer&, TrainingModule&, Checkpoint&) {}
  virtual void on_load_checkpoint(Trainer&, TrainingModule&, const Checkpoint&) {}

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
