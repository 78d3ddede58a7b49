// SPDX-License-Identifier: Apache-2.0
// TensorBoardLogger: metrics as event files in save_dir/name/version, which `tensorboard --logdir save_dir` shows;
// hyper-parameters on its HParams page, and in hparams.yaml beside them.
//
//   auto logger = std::make_shared<ckptio::TensorBoardLogger>("logs", ckptio::TensorBoardLoggerOptions{.name =
//   "mnist"}); ckptio::Trainer trainer({.max_epochs = 10, .loggers = {logger}});
//
// Every logger writes a file of its own, so several may write to one folder. What is logged can be seen at once, and is
// whole after the process was killed; it is not flushed to the disk. Values are float32, as TensorBoard's own.
// A resumed run that is given the version of the one it continues takes the place of what was logged there from its
// first step on: TensorBoard shows those steps once.
// Errors: IoError where the file can't be written. Threads: as Logger.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "ckptio/trainer/log_folder.h"
#include "ckptio/trainer/logger.h"

namespace ckptio {

namespace detail {
class EventFile;
}

struct TensorBoardLoggerOptions {
  std::string name = "lightning_logs";  // may be empty
  LogVersion version{};
  std::string prefix{};  // of metrics' names, joined by "-"
  // With hyper-parameters, logs a metric `hp_metric` of -1 at step 0: the HParams page needs one. Log the real one
  // under this name.
  bool default_hp_metric = true;
};

class TensorBoardLogger : public Logger {
 public:
  explicit TensorBoardLogger(std::string save_dir, TensorBoardLoggerOptions options = {});
  ~TensorBoardLogger() override;

  void log_metrics(const std::map<std::string, double>& metrics, std::int64_t step) override;
  // Nested entries are named by their path, joined by "/"; what is no number, bool or string is shown as its text.
  void log_hyperparams(const Dict& hyper_parameters) override;
  // Notes on the HParams page how a run with hyper-parameters ended.
  void finalize(const std::string& status) override;

  std::string save_dir() const override { return folder_.save_dir(); }
  std::string name() const override { return folder_.name(); }
  // Where it was left open: picked, and its folder made, when it is first asked for.
  std::string version() const override { return folder_.version(); }
  // The folder itself.
  std::string log_dir() const { return folder_.path(); }

 private:
  detail::EventFile& file();

  TensorBoardLoggerOptions options_;
  detail::LogFolder folder_;
  std::unique_ptr<detail::EventFile> file_;
  bool has_started_ = false;
  bool has_hyper_parameters_ = false;
};

}  // namespace ckptio
