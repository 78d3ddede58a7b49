// SPDX-License-Identifier: Apache-2.0
// CSVLogger: metrics as a table in save_dir/name/version/metrics.csv, hyper-parameters in hparams.yaml beside it.
//
//   auto logger = std::make_shared<ckptio::CSVLogger>("logs");
//   ckptio::Trainer trainer({.max_epochs = 10, .loggers = {logger}});  // logs/lightning_logs/version_0/metrics.csv
//
// One line per log_metrics() call, one column per metric, sorted, `step` among them; a cell is empty where its metric
// was not logged. A metric that is new adds a column: the file is written anew and replaced in one step, so that a
// reader finds a whole table at any moment. Quoted as in RFC 4180, lines end in "\n", numbers have the digits that read
// back as the same double.
//
// A folder that has a metrics.csv is gone on with, a line that a crash cut short apart: give a resumed run the version
// of the one that it continues. Rows of steps that are done again come twice; the later ones count.
// Errors: IoError where the file can't be written; what was logged is kept for the next time. CorruptError where the
// file that is there is no such table.
// Threads: as Logger.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "ckptio/trainer/log_folder.h"
#include "ckptio/trainer/logger.h"

namespace ckptio {

namespace detail {
class CsvFile;
}

struct CSVLoggerOptions {
  std::string name = "lightning_logs";  // may be empty
  LogVersion version{};
  std::string prefix{};  // of metrics' names, joined by "-"
  // Rows are written when so many steps have passed since the last time, and by save() and finalize().
  std::int64_t flush_logs_every_n_steps = 100;
};

class CSVLogger : public Logger {
 public:
  // ValueError where flush_logs_every_n_steps is below 1.
  explicit CSVLogger(std::string save_dir, CSVLoggerOptions options = {});
  // Writes what is left; an error then is lost: call save() or finalize() to see it.
  ~CSVLogger() override;

  void log_metrics(const std::map<std::string, double>& metrics, std::int64_t step) override;
  // hparams.yaml, as Lightning writes and reads it; tensors and other objects as their text.
  void log_hyperparams(const Dict& hyper_parameters) override;
  void save() override;
  void finalize(const std::string& status) override;

  std::string save_dir() const override { return folder_.save_dir(); }
  std::string name() const override { return folder_.name(); }
  // Where it was left open: picked, and its folder made, when it is first asked for.
  std::string version() const override { return folder_.version(); }
  // The folder itself.
  std::string log_dir() const { return folder_.path(); }

 private:
  detail::CsvFile& file();

  CSVLoggerOptions options_;
  detail::LogFolder folder_;
  std::unique_ptr<detail::CsvFile> file_;
  std::int64_t flushed_step_ = -1;
};

}  // namespace ckptio
