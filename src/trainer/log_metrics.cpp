// SPDX-License-Identifier: Apache-2.0
#include "trainer/log_metrics.h"

#include <algorithm>

namespace ckptio::detail {
namespace {

void log(Run& run, std::map<std::string, double> metrics, std::int64_t step) {
  if (metrics.empty()) return;
  metrics.emplace("epoch", static_cast<double>(run.progress.epoch));
  for (const auto& logger : run.loggers) logger->log_metrics(metrics, step);
}

// In a fit that of the last step that was done; of a run of its own, after a fit, the number of its steps.
std::int64_t step_of_means(const Run& run) {
  return run.stage == "fit" ? std::max<std::int64_t>(run.progress.global_step - 1, 0) : run.progress.global_step;
}

void save(Run& run) {
  for (const auto& logger : run.loggers) logger->save();
}

}  // namespace

void log_step_metrics(Run& run, bool stepped) {
  const std::int64_t step = run.progress.global_step - (stepped ? 1 : 0);
  if ((step + 1) % run.options.log_every_n_steps == 0) log(run, run.metrics.step_metrics(), step);
}

void log_epoch_metrics(Run& run) {
  log(run, run.metrics.epoch_metrics(MetricStore::Stage::kTraining), step_of_means(run));
  save(run);
}

void log_evaluation_metrics(Run& run) {
  log(run, run.metrics.epoch_metrics(MetricStore::Stage::kEvaluation), step_of_means(run));
  save(run);
}

}  // namespace ckptio::detail
