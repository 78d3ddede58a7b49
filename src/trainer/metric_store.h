// SPDX-License-Identifier: Apache-2.0
// MetricStore: what steps log, and the metrics it becomes.
//
// Values logged during a step wait until end_step(), so that a step that fails, or one that LBFGS evaluates several
// times, counts once or not at all. Sums are kept in the order of the steps, in double: a resumed run that continues
// with them gets the same bits.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "ckptio/trainer/training_module.h"
#include "ckptio/value.h"

namespace ckptio::detail {

class MetricStore {
 public:
  enum class Stage { kTraining, kEvaluation };

  // Forgets the sums of the stage.
  void begin_epoch(Stage stage);
  void begin_step(Stage stage, std::int64_t batch_size);
  void end_step();
  // Drops what an unfinished step logged.
  void abandon_step();
  // Turns the stage's sums into metrics; they stay, so that it may be done again.
  void end_epoch(Stage stage);

  void log(const std::string& name, double value, const LogOptions& options);

  const std::map<std::string, double>& metrics() const noexcept { return metrics_; }
  std::map<std::string, double> progress_bar_metrics() const;
  // Metrics that the last evaluation gave.
  std::map<std::string, double> evaluation_metrics() const;

  // For loggers, under the names they get there: what the last step logged; the stage's means, and with them what was
  // logged outside of steps since they were asked for last.
  std::map<std::string, double> step_metrics() const { return step_metrics_; }
  std::map<std::string, double> epoch_metrics(Stage stage);

  // The metrics and the sums of training; those of a validation start anew with it.
  Dict state_dict() const;
  void load_state_dict(const Dict& state);

 private:
  struct Logged {
    double value;
    bool on_step, on_epoch, logger;
    double weight;
  };
  struct Mean {
    double sum = 0;
    double weight = 0;
    bool on_step_too = false;
    bool logger = true;
  };
  using Means = std::map<std::string, Mean>;

  Means& means(Stage stage) { return stage == Stage::kTraining ? training_means_ : evaluation_means_; }

  std::map<std::string, double> metrics_;
  std::map<std::string, bool> in_progress_bar_;
  Means training_means_, evaluation_means_;
  std::map<std::string, double> step_metrics_;
  std::map<std::string, double> outside_steps_;  // not with the loggers yet
  std::map<std::string, Logged> pending_;
  bool in_step_ = false;
  Stage stage_ = Stage::kTraining;
  std::int64_t batch_size_ = 1;
};

}  // namespace ckptio::detail
