// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "ckptio/trainer/trainer.h"
#include "loggers/number_text.h"

namespace ckptio {
namespace {

constexpr std::int64_t kBarWidth = 24;  // characters
constexpr const char* kClearLine = "\r\x1b[2K";

std::string seconds(std::chrono::steady_clock::duration duration) {
  return detail::fixed_text(std::chrono::duration<double>(duration).count(), 1) + " s";
}

std::string milliseconds(std::chrono::nanoseconds duration) {
  return detail::fixed_text(std::chrono::duration<double, std::milli>(duration).count(), 1) + " ms";
}

std::string megabytes(std::int64_t n_bytes) {
  return detail::fixed_text(static_cast<double>(n_bytes) / 1e6, 1) + " MB";
}

std::string metrics_text(const Trainer& trainer, const char* separator) {
  std::ostringstream text;
  for (const auto& [name, value] : trainer.progress_bar_metrics()) {
    text << separator << name << '=' << std::setprecision(4) << value;
  }
  return text.str();
}

// Filled in proportion; with an unknown end a block that wanders.
std::string bar_text(std::int64_t n_done, std::optional<std::int64_t> n_all) {
  constexpr std::int64_t kBlockWidth = 3;
  std::string text(kBarWidth, '.');
  if (n_all && *n_all > 0) {
    std::fill_n(text.begin(), kBarWidth * std::min(n_done, *n_all) / *n_all, '#');
  } else {
    std::fill_n(text.begin() + n_done % (kBarWidth - kBlockWidth + 1), kBlockWidth, '#');
  }
  return text.insert(0, "[").append("]  ");
}

// The first n characters of UTF-8.
std::string cut(std::string text, std::size_t n) {
  std::size_t n_seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins_character = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (begins_character && n_seen++ == n) return text.substr(0, i);
  }
  return text;
}

}  // namespace

ProgressBar::ProgressBar(ProgressBarOptions options)
    : out_(options.out != nullptr ? *options.out : std::cout),
      options_(options),
      terminal_(options.terminal.value_or(options.out == nullptr && isatty(STDOUT_FILENO) == 1)) {}

void ProgressBar::on_sanity_check_start(Trainer&, TrainingModule&) { evaluation_.reset(); }

void ProgressBar::on_sanity_check_end(Trainer&, TrainingModule&) { clear(); }

void ProgressBar::on_train_start(Trainer&, TrainingModule&) { training_.emplace(); }

void ProgressBar::on_train_batch_end(Trainer& trainer, TrainingModule&, const at::Tensor&, std::int64_t batch_idx) {
  if (!training_) training_.emplace();
  training_->n_done = batch_idx + 1;
  training_->title = "Epoch " + std::to_string(trainer.current_epoch());
  draw_if_due(trainer, *training_, trainer.n_train_batches());
}

void ProgressBar::on_train_epoch_end(Trainer& trainer, TrainingModule&) {
  const Bar bar = training_.value_or(Bar{});
  print("epoch " + std::to_string(trainer.current_epoch()) + ": " + std::to_string(bar.n_done) + " batches in " +
        seconds(Clock::now() - bar.begin) + ", global step " + std::to_string(trainer.global_step()) +
        metrics_text(trainer, ", "));
  training_.emplace();
}

void ProgressBar::on_train_end(Trainer&, TrainingModule&) {
  clear();
  training_.reset();
}

void ProgressBar::on_validation_start(Trainer& trainer, TrainingModule&) {
  begin_evaluation(trainer, trainer.sanity_checking() ? "Sanity check" : "Validation");
}
void ProgressBar::on_validation_batch_end(Trainer& trainer, TrainingModule&, std::int64_t batch_idx) {
  advance_evaluation(trainer, batch_idx);
}
void ProgressBar::on_validation_end(Trainer& trainer, TrainingModule&) { end_evaluation(trainer); }

void ProgressBar::on_test_start(Trainer& trainer, TrainingModule&) { begin_evaluation(trainer, "Test"); }
void ProgressBar::on_test_batch_end(Trainer& trainer, TrainingModule&, std::int64_t batch_idx) {
  advance_evaluation(trainer, batch_idx);
}
void ProgressBar::on_test_end(Trainer& trainer, TrainingModule&) { end_evaluation(trainer); }

void ProgressBar::on_predict_start(Trainer& trainer, TrainingModule&) { begin_evaluation(trainer, "Predict"); }
void ProgressBar::on_predict_batch_end(Trainer& trainer, TrainingModule&, std::int64_t batch_idx) {
  advance_evaluation(trainer, batch_idx);
}
void ProgressBar::on_predict_end(Trainer& trainer, TrainingModule&) { end_evaluation(trainer); }

void ProgressBar::on_exception(Trainer&, TrainingModule&, const std::exception_ptr&) {
  clear();
  training_.reset();
  evaluation_.reset();
}

void ProgressBar::on_print(const Trainer&) { clear(); }

void ProgressBar::on_checkpoint_saved(Trainer&, TrainingModule&, const std::string& path, const SaveTiming& timing) {
  if (!options_.verbose) return;
  print("saved " + path + ": " + megabytes(timing.n_bytes) + ", stalled " + milliseconds(timing.stalled) +
        ", staging " + milliseconds(timing.staging) + ", writing " + milliseconds(timing.writing) + ", flushing " +
        milliseconds(timing.flushing));
}

void ProgressBar::on_checkpoint_loaded(Trainer&, TrainingModule&, const std::string& path, const LoadTiming& timing) {
  if (!options_.verbose) return;
  print("loaded " + path + ": " + megabytes(timing.n_bytes) + ", loading " + milliseconds(timing.loading) +
        ", applying " + milliseconds(timing.applying));
}

void ProgressBar::begin_evaluation(const Trainer& trainer, const char* title) {
  evaluation_.emplace().title = title;
  last_drawn_ = {};
  advance_evaluation(trainer, -1);
}

void ProgressBar::advance_evaluation(const Trainer& trainer, std::int64_t batch_idx) {
  if (!evaluation_) return;
  evaluation_->n_done = batch_idx + 1;
  std::optional<std::int64_t> n_all = trainer.n_eval_batches();
  const auto last = n_batches_.find(evaluation_->title);
  if (!n_all && last != n_batches_.end()) n_all = last->second;
  draw_if_due(trainer, *evaluation_, n_all);
}

void ProgressBar::end_evaluation(const Trainer& trainer) {
  if (!evaluation_) return;
  const Bar bar = *evaluation_;
  evaluation_.reset();
  n_batches_[bar.title] = bar.n_done;
  if (trainer.stage() == "fit") {
    if (terminal_ && training_ && !training_->title.empty()) draw(trainer, *training_, trainer.n_train_batches());
    return;
  }
  print(trainer.stage() + ": " + std::to_string(bar.n_done) + " batches in " + seconds(Clock::now() - bar.begin) +
        metrics_text(trainer, ", "));
}

void ProgressBar::draw_if_due(const Trainer& trainer, const Bar& bar, std::optional<std::int64_t> n_all) {
  if (!terminal_) return;
  const auto now = Clock::now();
  if (now - last_drawn_ < std::chrono::milliseconds(options_.refresh_interval_ms)) return;
  last_drawn_ = now;
  draw(trainer, bar, n_all);
}

void ProgressBar::draw(const Trainer& trainer, const Bar& bar, std::optional<std::int64_t> n_all) {
  std::string line = bar.title + "  " + bar_text(bar.n_done, n_all) + std::to_string(bar.n_done);
  if (n_all) line += "/" + std::to_string(*n_all);
  line += "  " + seconds(Clock::now() - bar.begin) + metrics_text(trainer, "  ");
  // A line that wraps could not be cleared; the last column is left to the cursor.
  if (const auto n = n_columns()) line = cut(std::move(line), static_cast<std::size_t>(std::max(*n - 1, 1)));
  out_ << kClearLine << line << std::flush;
  bar_is_on_screen_ = true;
}

void ProgressBar::clear() {
  if (bar_is_on_screen_) out_ << kClearLine << std::flush;
  bar_is_on_screen_ = false;
}

void ProgressBar::print(const std::string& line) {
  clear();
  out_ << line << std::endl;
}

std::optional<int> ProgressBar::n_columns() const {
  if (options_.n_columns || options_.out != nullptr) return options_.n_columns;
  struct winsize size {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return std::nullopt;
  return size.ws_col;
}

}  // namespace ckptio
