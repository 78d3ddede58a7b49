// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "ckptio/trainer/trainer.h"

namespace ckptio {
namespace {

constexpr std::int64_t kBarWidth = 24;  // characters
constexpr const char* kClearLine = "\r\x1b[2K";

std::string seconds(std::chrono::steady_clock::duration duration) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << std::chrono::duration<double>(duration).count() << " s";
  return text.str();
}

std::string metrics_text(const Trainer& trainer, const char* separator) {
  std::ostringstream text;
  for (const auto& [name, value] : trainer.progress_bar_metrics()) {
    text << separator << name << '=' << std::setprecision(4) << value;
  }
  return text.str();
}

// Filled in proportion; with an unknown end a block that wanders.
std::string bar(std::int64_t n_done, std::optional<std::int64_t> n_all) {
  constexpr std::int64_t kBlockWidth = 3;
  std::string text(kBarWidth, '.');
  if (n_all && *n_all > 0) {
    std::fill_n(text.begin(), kBarWidth * std::min(n_done, *n_all) / *n_all, '#');
  } else {
    std::fill_n(text.begin() + n_done % (kBarWidth - kBlockWidth + 1), kBlockWidth, '#');
  }
  return text.insert(0, "[").append("]  ");
}

}  // namespace

ProgressBar::ProgressBar(ProgressBarOptions options)
    : out_(options.out != nullptr ? *options.out : std::cout),
      terminal_(options.terminal.value_or(options.out == nullptr && isatty(STDOUT_FILENO) == 1)),
      refresh_interval_(options.refresh_interval_ms) {}

void ProgressBar::on_train_start(Trainer&, TrainingModule&) {
  n_done_ = 0;
  epoch_begin_ = Clock::now();
}

void ProgressBar::on_train_batch_end(Trainer& trainer, TrainingModule&, const at::Tensor&, std::int64_t batch_idx) {
  n_done_ = batch_idx + 1;
  if (!terminal_) return;
  const auto now = Clock::now();
  if (now - last_drawn_ < refresh_interval_) return;
  last_drawn_ = now;
  draw_bar(trainer, n_done_);
}

void ProgressBar::on_validation_start(Trainer& trainer, TrainingModule&) {
  if (terminal_ && epoch_begin_) draw_bar(trainer, n_done_);
}

void ProgressBar::on_train_epoch_end(Trainer& trainer, TrainingModule&) {
  clear_bar();
  out_ << "epoch " << trainer.current_epoch() << ": " << n_done_ << " batches in "
       << seconds(Clock::now() - epoch_begin_.value_or(Clock::now())) << ", global step " << trainer.global_step()
       << metrics_text(trainer, ", ") << std::endl;
  n_done_ = 0;
  epoch_begin_ = Clock::now();
}

void ProgressBar::on_train_end(Trainer&, TrainingModule&) {
  clear_bar();
  epoch_begin_.reset();
}

void ProgressBar::on_exception(Trainer&, TrainingModule&, const std::exception_ptr&) { clear_bar(); }

void ProgressBar::on_print(const Trainer&) { clear_bar(); }

void ProgressBar::draw_bar(const Trainer& trainer, std::int64_t n_done) {
  const auto n_all = trainer.n_train_batches();
  out_ << kClearLine << "Epoch " << trainer.current_epoch() << "  " << bar(n_done, n_all) << n_done;
  if (n_all) out_ << '/' << *n_all;
  out_ << "  " << seconds(Clock::now() - *epoch_begin_) << metrics_text(trainer, "  ") << std::flush;
  bar_is_on_screen_ = true;
}

void ProgressBar::clear_bar() {
  if (bar_is_on_screen_) out_ << kClearLine << std::flush;
  bar_is_on_screen_ = false;
}

}  // namespace ckptio
