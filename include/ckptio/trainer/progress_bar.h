// SPDX-License-Identifier: Apache-2.0
// ProgressBar: shows a fit on the standard output: on a terminal a bar that moves, elsewhere a line per epoch.
//
//   Epoch 3  [##########............]  26/57  0.8 s  train_loss=0.412
//   epoch 3: 57 batches in 1.9 s, global step 228, train_loss=0.371, val_acc=0.958
//
// Shown are the metrics logged with prog_bar. The Trainer adds one unless told not to.
#pragma once

#include <chrono>
#include <iosfwd>
#include <memory>
#include <optional>

#include "ckptio/trainer/callback.h"

namespace ckptio {

struct ProgressBarOptions {
  std::optional<bool> terminal{};  // whether to draw a bar; unset: if the standard output is a terminal
  std::ostream* out = nullptr;     // borrowed; null: std::cout
  int refresh_interval_ms = 50;    // at most one bar in so long
};

class ProgressBar : public Callback {
 public:
  explicit ProgressBar(ProgressBarOptions options = {});

  void on_train_start(Trainer&, TrainingModule&) override;
  void on_train_batch_end(Trainer&, TrainingModule&, const at::Tensor&, std::int64_t batch_idx) override;
  void on_validation_start(Trainer&, TrainingModule&) override;
  void on_train_epoch_end(Trainer&, TrainingModule&) override;
  void on_train_end(Trainer&, TrainingModule&) override;
  void on_exception(Trainer&, TrainingModule&, const std::exception_ptr&) override;
  void on_print(const Trainer&) override;

 private:
  using Clock = std::chrono::steady_clock;

  void draw_bar(const Trainer& trainer, std::int64_t n_done);
  void clear_bar();

  std::ostream& out_;
  const bool terminal_;
  const std::chrono::milliseconds refresh_interval_;
  std::int64_t n_done_ = 0;  // batches of this epoch
  std::optional<Clock::time_point> epoch_begin_;
  Clock::time_point last_drawn_{};
  bool bar_is_on_screen_ = false;
};

}  // namespace ckptio
