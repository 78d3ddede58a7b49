// SPDX-License-Identifier: Apache-2.0
// OnExceptionCheckpoint: saves a checkpoint when training ends by an exception or a signal. The next fit without a
// ckpt_path of its own resumes from it by itself, or from a newer `last`; a fit that ends well removes it.
//
//   ckptio::Trainer trainer({.callbacks = {std::make_shared<ckptio::OnExceptionCheckpoint>("run")}});
//   trainer.fit(*net, *loader);  // the same line again, after a crash, goes on
//
// An exception within a step leaves a checkpoint that resumes with that step. One before training began (while a
// checkpoint is restored, say) leaves none, so that a broken start does not hide what there is.
// Threads: used by the thread that called fit.
#pragma once

#include <string>

#include "ckptio/trainer/callback.h"

namespace ckptio {

class OnExceptionCheckpoint : public Callback {
 public:
  // ValueError for an empty filename, which is without its extension.
  explicit OnExceptionCheckpoint(std::string dirpath, std::string filename = "on_exception");

  std::string FILE_EXTENSION = ".ckpt";
  // What it saves, whether it is there or not.
  std::string ckpt_path() const;

  void setup(Trainer& trainer, TrainingModule& module, const std::string& stage) override;
  void on_train_start(Trainer& trainer, TrainingModule& module) override;
  void on_interrupt(Trainer& trainer, TrainingModule& module, int signal) override;
  void on_exception(Trainer& trainer, TrainingModule& module, const std::exception_ptr& error) override;
  void teardown(Trainer& trainer, TrainingModule& module, const std::string& stage) override;
  bool saves_checkpoints() const override { return true; }

 private:
  void save(Trainer& trainer);

  std::string dirpath_;
  std::string filename_;
  bool is_training_ = false;
  bool has_failed_ = false;  // in this fit
  bool has_saved_ = false;   // ever, and not removed since
};

}  // namespace ckptio
