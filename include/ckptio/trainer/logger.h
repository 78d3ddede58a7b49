// SPDX-License-Identifier: Apache-2.0
// Logger: where a Trainer writes the metrics of a run. Subclass it for a place of your own; CSVLogger and
// TensorBoardLogger are there.
//
// The Trainer writes what steps logged every `log_every_n_steps` steps, what epochs and validations gave at their end,
// each with the step they belong to. What a Logger throws ends the run.
// Threads: all functions are called on the thread that called fit.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "ckptio/value.h"

namespace ckptio {

class Logger {
 public:
  Logger() = default;
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;
  virtual ~Logger() = default;

  // `step`: optimizer steps done when the metrics were measured.
  virtual void log_metrics(const std::map<std::string, double>& metrics, std::int64_t step) = 0;

  // TrainingModule::hyper_parameters(), once as fit starts, unless they are empty.
  virtual void log_hyperparams(const Dict& /*hyper_parameters*/) {}

  // A ModelCheckpoint's file at `path` can be loaded; not called before that.
  virtual void after_save_checkpoint(const std::string& /*path*/) {}

  // Makes what was logged visible to readers; at the end of each epoch and validation.
  virtual void save() {}

  // A run is over. `status`: "success", "interrupted" or "failed". More may be logged by the next.
  virtual void finalize(const std::string& /*status*/) {}

  // The folder is save_dir()/name()/version(); parts that are empty are left out. ModelCheckpoint puts `checkpoints`
  // into the first logger's folder. By default there is none.
  virtual std::string save_dir() const { return {}; }
  virtual std::string name() const { return {}; }
  virtual std::string version() const { return {}; }
};

}  // namespace ckptio
