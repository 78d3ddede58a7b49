// SPDX-License-Identifier: Apache-2.0
// EveryNTrainSteps: saves a checkpoint after every so many steps and keeps the newest few.
//
//   auto saver = std::make_shared<ckptio::EveryNTrainSteps>(
//       ckptio::EveryNTrainStepsOptions{.dirpath = "checkpoints", .every_n_train_steps = 100, .save_last_k = 2});
//   ckptio::Trainer trainer({.max_epochs = 10, .callbacks = {saver}});
//   trainer.fit(*net, *loader, std::nullopt, ckptio::EveryNTrainSteps::last_checkpoint("checkpoints"));
//
// A new checkpoint is saved before an old one is removed, and only what this run saved, resumes included, is ever
// removed. A save that fails ends the run, changes nothing here, and leaves the older checkpoints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckptio/trainer/callback.h"

namespace ckptio {

struct EveryNTrainStepsOptions {
  // Where to; empty: `checkpoints` in the Trainer's default_root_dir.
  std::string dirpath{};
  // {epoch} and {step} stand for their numbers; `.ckpt` is added.
  std::string filename = "step={step}";
  std::int64_t every_n_train_steps = 1;
  // How many to keep; -1: all.
  std::int64_t save_last_k = 3;
  // Prints a line per save, with the time it took.
  bool verbose = false;
};

class EveryNTrainSteps : public Callback {
 public:
  // MisconfigurationError for numbers out of range.
  explicit EveryNTrainSteps(EveryNTrainStepsOptions options);

  // The path of the checkpoint in the folder that was written last, or nullopt where there is none. Looks at names
  // and times alone: with a plugin that saves as CheckpointIO demands, all that has its name is whole.
  static std::optional<std::string> last_checkpoint(const std::string& dirpath);

  // What is kept now, oldest first.
  std::vector<std::string> saved_paths() const;

  void setup(Trainer& trainer, TrainingModule&, const std::string& stage) override;
  void on_train_start(Trainer& trainer, TrainingModule&) override;
  void on_train_batch_end(Trainer& trainer, TrainingModule&, const at::Tensor&, std::int64_t) override;

  // Names in dirpath, so that a run whose folder was moved goes on.
  Dict state_dict() const override;
  void load_state_dict(const Dict& state) override;
  bool saves_checkpoints() const override { return true; }

 private:
  void save(Trainer& trainer);
  void remove_surplus(Trainer& trainer);
  std::string name_for(const Trainer& trainer) const;

  EveryNTrainStepsOptions options_;
  std::vector<std::string> names_;  // kept, oldest first
};

}  // namespace ckptio
