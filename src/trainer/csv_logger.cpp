// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/csv_logger.h"

#include <cmath>
#include <cstdlib>
#include <exception>

#include "ckptio/error.h"
#include "loggers/csv_file.h"
#include "loggers/number_text.h"
#include "trainer/hparams_yaml.h"

namespace ckptio {
namespace {

// The epoch counts: no ".0" behind it.
std::string cell(const std::string& metric, double value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  const bool is_count = metric == "epoch" && std::abs(value) < kExact && value == std::floor(value);
  return is_count ? std::to_string(static_cast<std::int64_t>(value)) : detail::number_text(value);
}

}  // namespace

CSVLogger::CSVLogger(std::string save_dir, CSVLoggerOptions options)
    : options_(std::move(options)), folder_(std::move(save_dir), options_.name, options_.version) {
  if (options_.flush_logs_every_n_steps < 1) {
    throw ValueError("CSVLogger: flush_logs_every_n_steps: 1 or more expected, found " +
                     std::to_string(options_.flush_logs_every_n_steps));
  }
}

CSVLogger::~CSVLogger() {
  try {
    save();
  } catch (const std::exception&) {  // its users had save() and finalize() to learn of it
  }
}

detail::CsvFile& CSVLogger::file() {
  if (!file_) file_ = std::make_unique<detail::CsvFile>(folder_.make() + "/metrics.csv");
  return *file_;
}

void CSVLogger::log_metrics(const std::map<std::string, double>& metrics, std::int64_t step) {
  detail::CsvFile::Row row;
  for (const auto& [name, value] : metrics) {
    row[options_.prefix.empty() ? name : options_.prefix + "-" + name] = cell(name, value);
  }
  row["step"] = std::to_string(step);
  file().add(std::move(row));
  if (std::abs(step - flushed_step_) < options_.flush_logs_every_n_steps) return;
  flushed_step_ = step;
  save();
}

void CSVLogger::log_hyperparams(const Dict& hyper_parameters) {
  detail::write_yaml(hyper_parameters, folder_.make() + "/hparams.yaml");
}

void CSVLogger::save() {
  if (file_) file_->flush();
}

void CSVLogger::finalize(const std::string&) { save(); }

}  // namespace ckptio
