// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/tensorboard_logger.h"

#include "loggers/event_file.h"
#include "trainer/hparams_yaml.h"

namespace ckptio {
namespace {

using HyperParameters = std::map<std::string, detail::EventFile::HyperParameter>;

void flatten(const Dict& dict, const std::string& prefix, HyperParameters& out) {
  for (const auto& [key, value] : dict) {
    const std::string name = prefix + (key.is<std::string>() ? key.as<std::string>() : to_string(key));
    if (value.is<Dict>() && !value.as<Dict>().empty()) {
      flatten(value.as<Dict>(), name + "/", out);
    } else if (value.is<bool>()) {
      out[name] = value.as<bool>();
    } else if (value.is<std::int64_t>() || value.is<double>()) {
      out[name] = value.as<double>();
    } else {
      out[name] = value.is<std::string>() ? value.as<std::string>() : to_string(value);
    }
  }
}

}  // namespace

TensorBoardLogger::TensorBoardLogger(std::string save_dir, TensorBoardLoggerOptions options)
    : options_(std::move(options)), folder_(std::move(save_dir), options_.name, options_.version) {}

TensorBoardLogger::~TensorBoardLogger() = default;

detail::EventFile& TensorBoardLogger::file() {
  if (!file_) file_ = std::make_unique<detail::EventFile>(folder_.make());
  return *file_;
}

void TensorBoardLogger::log_metrics(const std::map<std::string, double>& metrics, std::int64_t step) {
  if (!has_started_) file().add_start(step);
  has_started_ = true;
  if (options_.prefix.empty()) {
    file().add_scalars(metrics, step);
    return;
  }
  std::map<std::string, double> prefixed;
  for (const auto& [name, value] : metrics) prefixed[options_.prefix + "-" + name] = value;
  file().add_scalars(prefixed, step);
}

void TensorBoardLogger::log_hyperparams(const Dict& hyper_parameters) {
  HyperParameters parameters;
  flatten(hyper_parameters, "", parameters);
  std::vector<std::string> metrics;
  if (options_.default_hp_metric) {
    metrics.push_back("hp_metric");
    file().add_scalars({{metrics[0], -1.0}}, 0);
  }
  file().add_hyper_parameters(parameters, metrics);
  has_hyper_parameters_ = true;
  detail::write_yaml(hyper_parameters, folder_.make() + "/hparams.yaml");
}

void TensorBoardLogger::finalize(const std::string& status) {
  if (has_hyper_parameters_) file().add_end(status == "success");
}

}  // namespace ckptio
