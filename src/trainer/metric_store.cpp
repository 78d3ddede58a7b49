// SPDX-License-Identifier: Apache-2.0
#include "trainer/metric_store.h"

#include <utility>

namespace ckptio::detail {

void MetricStore::begin_epoch(Stage stage) { means(stage).clear(); }

void MetricStore::begin_step(Stage stage, std::int64_t batch_size) {
  in_step_ = true;
  stage_ = stage;
  batch_size_ = batch_size;
  pending_.clear();
}

void MetricStore::end_step() {
  in_step_ = false;
  step_metrics_.clear();
  for (const auto& [name, logged] : pending_) {
    if (logged.on_epoch) {
      Mean& mean = means(stage_)[name];
      mean.sum += logged.value * logged.weight;
      mean.weight += logged.weight;
      mean.on_step_too = logged.on_step;
      mean.logger = logged.logger;
    }
    if (logged.on_step) {
      metrics_[name] = logged.value;
      if (logged.on_epoch) metrics_[name + "_step"] = logged.value;
      if (logged.logger) step_metrics_[logged.on_epoch ? name + "_step" : name] = logged.value;
    }
  }
  pending_.clear();
}

void MetricStore::abandon_step() {
  in_step_ = false;
  pending_.clear();
}

void MetricStore::end_epoch(Stage stage) {
  for (const auto& [name, mean] : means(stage)) {
    const double value = mean.sum / mean.weight;
    metrics_[name] = value;
    if (mean.on_step_too) metrics_[name + "_epoch"] = value;
  }
}

void MetricStore::log(const std::string& name, double value, const LogOptions& options) {
  if (options.prog_bar) in_progress_bar_[name] = true;
  if (!in_step_) {
    metrics_[name] = value;
    if (options.logger) outside_steps_[name] = value;
    return;
  }
  const bool training = stage_ == Stage::kTraining;
  pending_[name] = {value, options.on_step.value_or(training), options.on_epoch.value_or(!training), options.logger,
                    static_cast<double>(options.batch_size.value_or(batch_size_))};
}

std::map<std::string, double> MetricStore::progress_bar_metrics() const {
  std::map<std::string, double> shown;
  for (const auto& [name, yes] : in_progress_bar_) {
    if (const auto found = metrics_.find(name); found != metrics_.end()) shown.insert(*found);
  }
  return shown;
}

std::map<std::string, double> MetricStore::evaluation_metrics() const {
  std::map<std::string, double> result;
  for (const auto& [name, mean] : evaluation_means_) result[name] = metrics_.at(name);
  return result;
}

std::map<std::string, double> MetricStore::epoch_metrics(Stage stage) {
  std::map<std::string, double> result = std::exchange(outside_steps_, {});
  for (const auto& [name, mean] : means(stage)) {
    if (mean.logger) result[mean.on_step_too ? name + "_epoch" : name] = mean.sum / mean.weight;
  }
  return result;
}

Dict MetricStore::state_dict() const {
  Dict metrics, running;
  for (const auto& [name, value] : metrics_) metrics[name] = value;
  for (const auto& [name, mean] : training_means_) {
    running[name] =
        Dict{{"sum", mean.sum}, {"weight", mean.weight}, {"on_step_too", mean.on_step_too}, {"logger", mean.logger}};
  }
  return Dict{{"callback_metrics", metrics}, {"running_means", running}};
}

void MetricStore::load_state_dict(const Dict& state) {
  std::map<std::string, double> metrics;
  for (const auto& [name, value] : state.at("callback_metrics").as<Dict>()) {
    metrics[name.as<std::string>()] = value.as<double>();
  }
  Means running;
  for (const auto& [name, mean] : state.at("running_means").as<Dict>()) {
    running[name.as<std::string>()] = {mean.at("sum").as<double>(), mean.at("weight").as<double>(),
                                       mean.at("on_step_too").as<bool>(), mean.at("logger").as<bool>()};
  }
  metrics_ = std::move(metrics);
  training_means_ = std::move(running);
}

}  // namespace ckptio::detail
