// SPDX-License-Identifier: Apache-2.0
// The rules are those of pytorch_lightning/callbacks/early_stopping.py, 2.6.6.
#include "ckptio/trainer/early_stopping.h"

#include <ATen/ops/scalar_tensor.h>

#include <cmath>
#include <limits>

#include "ckptio/error.h"
#include "ckptio/trainer/trainer.h"
#include "loggers/number_text.h"

namespace ckptio {
namespace {

using detail::fixed_text;
using detail::number_text;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool is_float32(double value) { return std::isnan(value) || static_cast<double>(static_cast<float>(value)) == value; }

std::string signal(const std::string& why) { return why + " Signaling Trainer to stop."; }

// Lightning keeps a tensor; a number is taken too.
double number_in(const Value& value) {
  if (!value.is<at::Tensor>()) return value.as<double>();
  const at::Tensor& tensor = value.as<at::Tensor>();
  if (!tensor.defined() || tensor.numel() != 1) throw ValueError(value.path() + ": a tensor of one element expected");
  return tensor.item<double>();
}

std::string not_available(const std::string& monitor, const std::map<std::string, double>& metrics) {
  std::string names;
  for (const auto& [name, value] : metrics) names += (names.empty() ? "" : "`, `") + name;
  return "Early stopping conditioned on metric `" + monitor +
         "` which is not available. Pass in or modify your `EarlyStopping` callback to use any of the following: `" +
         names + "`";
}

}  // namespace

EarlyStopping::EarlyStopping(EarlyStoppingOptions options)
    : options_(std::move(options)), best_score_(options_.mode == "max" ? -kInfinity : kInfinity) {
  if (options_.mode != "min" && options_.mode != "max") {
    throw MisconfigurationError("`mode` can be min, max, got " + options_.mode);
  }
  if (options_.monitor.empty()) throw ValueError("EarlyStopping: `monitor` names no metric");
}

void EarlyStopping::setup(Trainer& trainer, TrainingModule&, const std::string&) {
  const TrainerOptions& of_run = trainer.options();
  const BatchLimit& interval = of_run.val_check_interval;
  const bool is_one_per_epoch =
      interval.is_fraction() && interval.fraction() == 1.0 && of_run.check_val_every_n_epoch == 1;
  checks_on_train_epoch_end_ = options_.check_on_train_epoch_end.value_or(is_one_per_epoch);
}

void EarlyStopping::on_train_epoch_end(Trainer& trainer, TrainingModule&) {
  if (checks_on_train_epoch_end_) look(trainer);
}

void EarlyStopping::on_validation_end(Trainer& trainer, TrainingModule&) {
  if (!checks_on_train_epoch_end_) look(trainer);
}

void EarlyStopping::look(Trainer& trainer) {
  if (trainer.stage() != "fit" || trainer.sanity_checking() || trainer.options().fast_dev_run != 0) return;
  const auto& metrics = trainer.callback_metrics();
  const auto found = metrics.find(options_.monitor);
  if (found == metrics.end()) {
    const std::string message = not_available(options_.monitor, metrics);
    if (options_.strict) throw MisconfigurationError(message);
    if (options_.verbose) trainer.print(message);
    return;
  }
  const Verdict verdict = judge(found->second);
  if (verdict.stop) {
    trainer.stop();
    stopping_reason_ = *verdict.stop;
    stopping_reason_message_ = verdict.message;
    stopped_epoch_ = trainer.current_epoch();
  }
  if (options_.verbose && !verdict.message.empty()) trainer.print(verdict.message);
}

EarlyStopping::Verdict EarlyStopping::judge(double current) {
  const std::string& name = options_.monitor;
  if (options_.check_finite && !std::isfinite(current)) {
    return {EarlyStoppingReason::non_finite_metric,
            signal("Monitored metric " + name + " = " + number_text(current) +
                   " is not finite. Previous best value was " + fixed_text(best_score_, 3) + ".")};
  }
  if (options_.stopping_threshold && is_better(current, 0, *options_.stopping_threshold)) {
    return {EarlyStoppingReason::stopping_threshold,
            threshold_message("Stopping", current, *options_.stopping_threshold)};
  }
  if (options_.divergence_threshold && is_better(-current, 0, -*options_.divergence_threshold)) {
    return {EarlyStoppingReason::divergence_threshold,
            threshold_message("Divergence", current, *options_.divergence_threshold)};
  }
  if (is_better(current, options_.min_delta, best_score_)) {
    std::string message = "Metric " + name + " improved";
    if (std::isfinite(best_score_)) {
      message += " by " + fixed_text(std::abs(best_score_ - current), 3) +
                 " >= min_delta = " + number_text(std::abs(options_.min_delta));
    }
    best_score_ = current;
    wait_count_ = 0;
    return {std::nullopt, message + ". New best score: " + fixed_text(current, 3)};
  }
  if (++wait_count_ < options_.patience) return {};
  return {EarlyStoppingReason::patience_exhausted,
          signal("Monitored metric " + name + " did not improve in the last " + std::to_string(wait_count_) +
                 " records. Best score: " + fixed_text(best_score_, 3) + ".")};
}

bool EarlyStopping::is_better(double value, double min_delta, double reference) const {
  const double delta = options_.mode == "max" ? -min_delta : min_delta;
  const auto compare = [this](auto a, auto b) { return options_.mode == "max" ? a > b : a < b; };
  if (!is_float32(value)) return compare(value + delta, reference);
  const auto moved = static_cast<float>(value) + static_cast<float>(delta);
  return compare(moved, static_cast<float>(reference));
}

// Lightning writes the sign of `mode` in both.
std::string EarlyStopping::threshold_message(const char* title, double current, double threshold) const {
  return signal(std::string(title) + " threshold reached: " + options_.monitor + " = " + number_text(current) +
                (options_.mode == "max" ? " > " : " < ") + number_text(threshold) + ".");
}

std::string EarlyStopping::state_key() const {
  return "EarlyStopping" + to_string(Dict{{"monitor", options_.monitor}, {"mode", options_.mode}});
}

Dict EarlyStopping::state_dict() const {
  const auto type = is_float32(best_score_) ? at::kFloat : at::kDouble;  // Lightning's are float32
  return {{"wait_count", wait_count_},
          {"stopped_epoch", stopped_epoch_},
          {"best_score", at::scalar_tensor(best_score_, at::TensorOptions(type))},
          {"patience", options_.patience},
          {"stopping_reason", static_cast<std::int64_t>(stopping_reason_)},
          {"stopping_reason_message", stopping_reason_message_ ? Value(*stopping_reason_message_) : Value()}};
}

void EarlyStopping::load_state_dict(const Dict& state) {
  const auto wait_count = state.at("wait_count").as<std::int64_t>();
  const auto stopped_epoch = state.at("stopped_epoch").as<std::int64_t>();
  const double best_score = number_in(state.at("best_score"));
  const auto patience = state.at("patience").as<std::int64_t>();
  // Older Lightnings write no reason.
  const auto reason = state.get("stopping_reason", 0).as<std::int64_t>();
  if (reason < 0 || reason > static_cast<std::int64_t>(EarlyStoppingReason::non_finite_metric)) {
    throw ValueError("stopping_reason: 0 to 4 expected, found " + std::to_string(reason));
  }
  stopping_reason_message_ = state.get("stopping_reason_message", nullptr).as<std::optional<std::string>>();
  stopping_reason_ = static_cast<EarlyStoppingReason>(reason);
  wait_count_ = wait_count;
  stopped_epoch_ = stopped_epoch;
  best_score_ = best_score;
  options_.patience = patience;
}

}  // namespace ckptio
