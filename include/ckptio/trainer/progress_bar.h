// SPDX-License-Identifier: Apache-2.0
// ProgressBar: shows a run on the standard output: on a terminal a bar that moves, elsewhere a line per epoch.
//
//   Epoch 3  [##########............]  26/57  0.8 s  train_loss=0.412
//   Validation  [#####...............]  3/12  0.1 s
//   epoch 3: 57 batches in 1.9 s, global step 228, train_loss=0.371, val_acc=0.958
//   test: 12 batches in 0.2 s, test_acc=0.961
//
// Shown are the metrics logged with prog_bar. A bar is one line, cut to the terminal's width, and makes room for lines
// that Trainer::print() writes. The Trainer adds one unless told not to.
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>

#include "ckptio/trainer/callback.h"

namespace ckptio {

struct ProgressBarOptions {
  std::optional<bool> terminal{};  // whether to draw bars; unset: if the standard output is a terminal
  std::ostream* out = nullptr;     // borrowed; null: std::cout
  int refresh_interval_ms = 50;    // at most one bar in so long
  std::optional<int> n_columns{};  // of the terminal; unset: asked of the standard output, each time
  // A line for each checkpoint that was saved or loaded: bytes and times.
  bool verbose = false;
};

class ProgressBar : public Callback {
 public:
  explicit ProgressBar(ProgressBarOptions options = {});

  void on_sanity_check_start(Trainer&, TrainingModule&) override;
  void on_sanity_check_end(Trainer&, TrainingModule&) override;
  void on_train_start(Trainer&, TrainingModule&) override;
  void on_train_batch_end(Trainer&, TrainingModule&, const at::Tensor&, std::int64_t batch_idx) override;
  void on_train_epoch_end(Trainer&, TrainingModule&) override;
  void on_train_end(Trainer&, TrainingModule&) override;

  void on_validation_start(Trainer&, TrainingModule&) override;
  void on_validation_batch_end(Trainer&, TrainingModule&, std::int64_t batch_idx) override;
  void on_validation_end(Trainer&, TrainingModule&) override;
  void on_test_start(Trainer&, TrainingModule&) override;
  void on_test_batch_end(Trainer&, TrainingModule&, std::int64_t batch_idx) override;
  void on_test_end(Trainer&, TrainingModule&) override;
  void on_predict_start(Trainer&, TrainingModule&) override;
  void on_predict_batch_end(Trainer&, TrainingModule&, std::int64_t batch_idx) override;
  void on_predict_end(Trainer&, TrainingModule&) override;

  void on_exception(Trainer&, TrainingModule&, const std::exception_ptr&) override;
  void on_print(const Trainer&) override;
  void on_checkpoint_saved(Trainer&, TrainingModule&, const std::string& path, const SaveTiming&) override;
  void on_checkpoint_loaded(Trainer&, TrainingModule&, const std::string& path, const LoadTiming&) override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Bar {
    std::string title;
    std::int64_t n_done = 0;  // batches
    Clock::time_point begin = Clock::now();
  };

  void begin_evaluation(const Trainer& trainer, const char* title);
  void advance_evaluation(const Trainer& trainer, std::int64_t batch_idx);
  void end_evaluation(const Trainer& trainer);
  void draw(const Trainer& trainer, const Bar& bar, std::optional<std::int64_t> n_all);
  void draw_if_due(const Trainer& trainer, const Bar& bar, std::optional<std::int64_t> n_all);
  void clear();
  void print(const std::string& line);
  std::optional<int> n_columns() const;

  std::ostream& out_;
  const ProgressBarOptions options_;
  const bool terminal_;
  std::optional<Bar> training_;    // the epoch's, in fit
  std::optional<Bar> evaluation_;  // in a validation, test or predict, of a fit or alone
  // Of the last one of each title, for loaders that can't tell.
  std::map<std::string, std::int64_t> n_batches_;
  Clock::time_point last_drawn_{};
  bool bar_is_on_screen_ = false;
};

}  // namespace ckptio
