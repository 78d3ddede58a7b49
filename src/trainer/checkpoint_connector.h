// SPDX-License-Identifier: Apache-2.0
// Between a Run and its checkpoints: what is saved, and how it comes back. The order of hooks is Lightning's.
#pragma once

#include <optional>
#include <string>

#include "trainer/run.h"

namespace ckptio::detail {

// The checkpoint of the run as it stands, the on_save_checkpoint hooks' additions included.
Checkpoint dump_checkpoint(Run& run, bool weights_only);

// Tells the plugin what the run's checkpoints hold, as far as the module and the optimizers have their tensors already,
// where saves go on in the background and a callback makes any.
void reserve_for_saves(Run& run);

// A fit's way back to a checkpoint, in the two steps between which the optimizers are made. Where anything in between
// or in here throws, destruction puts the module's weights back. With no path it does nothing.
class FitResume {
 public:
  FitResume(Run& run, const std::optional<std::string>& path) : run_(run), path_(path) {}
  FitResume(const FitResume&) = delete;
  FitResume& operator=(const FitResume&) = delete;
  ~FitResume();

  // 1. Loads, checks what can be checked without optimizers, and restores the module and the callbacks. A plugin
  //    that restores in place needs the optimizers first, so there this does nothing.
  void restore_model();
  // 2. Requires: optimizers_and_schedulers. Restores the rest.
  void restore_training();

 private:
  void restore_in_place();
  void check_counts() const;

  Run& run_;
  std::optional<std::string> path_;
  std::optional<Checkpoint> checkpoint_;  // between the two steps
  LoadTiming timing_;
  std::optional<Dict> weights_before_;
};

// The module and the callbacks from the checkpoint at `path`, for a run that does not train.
void restore_for_evaluation(Run& run, const std::string& path);

// What the stage that runs is to be restored from, if anything: `given`, or what Trainer::set_ckpt_path said, or, with
// an OnExceptionCheckpoint, "last"; where that is "best" or "last", the path it stands for. Sets Run::ckpt_path.
std::optional<std::string> find_ckpt_path(Run& run, const std::optional<std::string>& given);

}  // namespace ckptio::detail
