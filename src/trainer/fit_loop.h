// SPDX-License-Identifier: Apache-2.0
// FitLoop: epochs of training and validation, from wherever Run::progress stands.
//
// What makes a resume exact:
// 1. Before the loader of an epoch is begun, the generators are kept in progress.epoch_rng: the shuffle comes from
//    them.
// 2. After each batch the next one is fetched, so that the hooks of the last one know that it is; the generators
//    before that are kept in progress.fetch_rng.
// 3. Every batch ends in a state that is whole: weights, optimizers, schedulers, gradients that are being accumulated,
//    sums of metrics, generators, and batches_done. Checkpoints saved between batches hold just that.
// 4. Before a batch, a fetch or a validation begins, the generators are kept in progress.redo_rng; a checkpoint saved
//    in its middle holds those, and batches_done without it: the resumed run does it again.
// 5. A resume begins the loader from epoch_rng and passes over batches_done batches; or, where the loader keeps a
// state,
//    loads that from before the fetch and begins it, which goes on there. Then it sets the generators to fetch_rng,
//    fetches one more, and only then sets them to the checkpoint's rng_state. See resume_loader.h.
//
// Schedulers step when Lightning's do: "step" ones after the optimizers' step, "epoch" ones after the last step of the
// epoch, and those that need a metric after the validation.
#pragma once

#include "trainer/run.h"
#include "trainer/signal_guard.h"

namespace ckptio::detail {

class FitLoop {
 public:
  // All borrowed; `val` may be null.
  FitLoop(Run& run, BatchSource& train, BatchSource* val, const SignalGuard& signals)
      : run_(run), progress_(run.progress), train_(train), val_(val), signals_(signals) {}

  // Returns when max_epochs, max_steps or max_time is reached, Trainer::stop() was called, or a signal came.
  void run();

 private:
  bool done() const;
  bool stop_asked() const;
  bool must_stop() const;
  void watch_time_and_signals();
  void take_up_checkpoint();
  bool run_epoch();  // false: stopped in its middle
  void begin_epoch();
  bool run_batches();  // as run_epoch
  void fetch();
  void run_batch();
  torch::Tensor run_optimizers(std::int64_t batch_idx);
  torch::Tensor backward(std::int64_t batch_idx);
  void before_optimizer_step();
  void step_optimizers();
  void end_step();
  void end_batches();
  void validate_in_epoch();
  void validate_at_end();
  void end_epoch();
  void measure_lost_metrics();
  void step_schedulers(const std::function<bool(const LRSchedulerConfig&)>& wanted);
  bool ends_epoch(const LRSchedulerConfig& config) const;

  Run& run_;
  FitProgress& progress_;
  BatchSource& train_;
  BatchSource* val_;
  const SignalGuard& signals_;
  bool has_batch_ = false;  // fetched, and not done yet
  bool is_first_step_ = true;
};

}  // namespace ckptio::detail
