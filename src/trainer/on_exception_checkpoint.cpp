// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/on_exception_checkpoint.h"

#include "ckptio/trainer/trainer.h"
#include "trainer/checkpoints/checkpoint_folder.h"

namespace ckptio {

OnExceptionCheckpoint::OnExceptionCheckpoint(std::string dirpath, std::string filename)
    : dirpath_(std::move(dirpath)), filename_(std::move(filename)) {
  if (filename_.empty()) throw ValueError("The filename cannot be empty");
}

std::string OnExceptionCheckpoint::ckpt_path() const {
  return detail::path_in(dirpath_.empty() ? "." : dirpath_, filename_ + FILE_EXTENSION);
}

void OnExceptionCheckpoint::setup(Trainer&, TrainingModule&, const std::string&) { is_training_ = has_failed_ = false; }

void OnExceptionCheckpoint::on_train_start(Trainer&, TrainingModule&) { is_training_ = true; }

void OnExceptionCheckpoint::on_interrupt(Trainer& trainer, TrainingModule&, int) { save(trainer); }

void OnExceptionCheckpoint::on_exception(Trainer& trainer, TrainingModule&, const std::exception_ptr&) {
  save(trainer);
}

void OnExceptionCheckpoint::save(Trainer& trainer) {
  has_failed_ = true;
  if (!is_training_ || trainer.options().fast_dev_run != 0) return;
  trainer.save_checkpoint(ckpt_path());
  has_saved_ = true;
}

void OnExceptionCheckpoint::teardown(Trainer& trainer, TrainingModule&, const std::string& stage) {
  if (stage != "fit" || has_failed_ || !is_training_) return;
  const bool has_resumed = trainer.ckpt_path() && detail::is_same_file(*trainer.ckpt_path(), ckpt_path());
  if (has_saved_ || has_resumed) trainer.remove_checkpoint(ckpt_path());
  has_saved_ = false;
}

}  // namespace ckptio
