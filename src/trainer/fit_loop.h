// SPDX-License-Identifier: Apache-2.0
// FitLoop: epochs of training and validation, from wherever Run::progress stands.
//
// What makes a resume exact:
// 1. Before the loader of an epoch is begun, the generators are kept in progress.epoch_rng: the shuffle comes from
//    them.
// 2. Every step ends in a state that is whole: weights, optimizers, schedulers, sums of metrics, generators, and
//    batches_done. Checkpoints saved between steps hold just that.
// 3. Before a step or a validation begins, the generators are kept in progress.redo_rng; a checkpoint saved in its
//    middle holds those, and batches_done without it: the resumed run does it again.
// 4. A resume sets the generators to epoch_rng, begins the loader, passes over batches_done batches, and only then
//    sets the generators to the checkpoint's rng_state.
#pragma once

#include "trainer/run.h"

namespace ckptio::detail {

class FitLoop {
 public:
  // All borrowed; `val` may be null.
  FitLoop(Run& run, BatchSource& train, BatchSource* val)
      : run_(run), progress_(run.progress), train_(train), val_(val) {}

  // Returns when max_epochs or max_steps is reached, or Trainer::stop() was called.
  void run();

 private:
  bool done() const;
  void take_up_checkpoint();
  bool run_epoch();  // false: stopped in its middle
  void begin_epoch();
  bool run_batches();  // as run_epoch
  bool next_batch();
  void run_batch();
  torch::Tensor optimize(std::int64_t batch_idx);
  void validate();
  void step_schedulers(const std::string& interval, std::int64_t n_done);

  Run& run_;
  FitProgress& progress_;
  BatchSource& train_;
  BatchSource* val_;
};

}  // namespace ckptio::detail
