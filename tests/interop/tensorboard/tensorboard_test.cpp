// SPDX-License-Identifier: Apache-2.0
// The real TensorBoard reads what TensorBoardLogger writes. twin.py is the other side, and says what it expects.
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "../../unit/trainer/small_run.h"
#include "ckptio/trainer/csv_logger.h"
#include "ckptio/trainer/tensorboard_logger.h"
#include "support/catch.h"
#include "support/python.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

void log_run(const std::string& root) {
  TensorBoardLogger logger(root, {.name = "run"});
  logger.log_metrics({{"loss", 0.5}, {"epoch", 0}}, 0);
  logger.log_metrics({{"loss", 0.25}}, 1);
  logger.log_metrics({}, 2);
  logger.log_metrics({{"loss", 0.125}}, 3);
  logger.log_metrics({{"loss", 0.0625}, {"val/acc", std::nan("")}, {"потеря, %", -kInfinity}}, 7);
  logger.log_metrics({{"epoch", 1}}, std::int64_t{1} << 40);
  logger.finalize("success");
  CHECK(logger.log_dir() == root + "/run/version_0");
}

void log_hparams(const std::string& root) {
  TensorBoardLogger logger(root, {.name = "hparams", .version = "first"});
  logger.log_hyperparams({{"lr", 0.1},
                          {"layers", 3},
                          {"nesterov", true},
                          {"name", "a \"б\"\n"},
                          {"optimizer", Dict{{"betas", Tuple{0.9, 0.999}}, {"eps", 1e-5}}},
                          {"none", nullptr}});
  logger.finalize("success");
}

void log_yaml(const std::string& root) {
  const List words{"null", "true",  "no",          "~", "1",          "1.5",   "-",  "",     " x",  "x ",
                   "a: b", "a #b",  "[1]",         "%", "@",          "plain", "y",  "0x10", "1e5", ".inf",
                   "é",    "tab\t", "back\\slash", "'", "2001-01-01", "- a",   "<<", "="};
  const List numbers{1, -1, BigInt("1180591620717411303424"), 1e16, -1e-7, 0.0, kInfinity, -kInfinity};
  const Dict nested{{"empty", Dict{}},
                    {"none", List{}},
                    {"lists", List{List{1, 2}, Tuple{Dict{{"a", 1}, {"b", List{2}}}}}},
                    {3, "three"}};
  CSVLogger(root, {.name = "yaml"}).log_hyperparams({{"words", words}, {"numbers", numbers}, {"nested", nested}});
}

// Files cut short within their last record, as by a full disk, with the file of a run that went on.
void log_torn(const std::string& root) {
  for (int n_cut = 1; n_cut < 40; n_cut += 7) {
    const TensorBoardLoggerOptions options{.name = "torn", .version = std::to_string(n_cut)};
    std::string folder;
    {
      TensorBoardLogger logger(root, options);
      for (int step = 0; step < 9; ++step) logger.log_metrics({{"loss", step}}, step);
      folder = logger.log_dir();
    }
    const fs::path file = fs::directory_iterator(folder)->path();
    fs::resize_file(file, fs::file_size(file) - static_cast<std::uintmax_t>(n_cut));
    TensorBoardLogger(root, options).log_metrics({{"loss", 9}}, 9);
  }
}

void log_resumed(const std::string& root) {
  const TensorBoardLoggerOptions options{.name = "resumed", .version = "r"};
  {
    TensorBoardLogger logger(root, options);
    for (int step = 1; step < 8; ++step) logger.log_metrics({{"loss", step}}, step);
  }
  TensorBoardLogger logger(root, options);
  for (int step = 4; step < 6; ++step) logger.log_metrics({{"loss", 10 * step}}, step);
}

void log_both(const std::string& root) {
  TensorBoardLogger a(root, {.name = "both", .version = "r"}), b(root, {.name = "both", .version = "r"});
  for (int step = 0; step < 5; ++step) {
    a.log_metrics({{"a", step}}, step);
    b.log_metrics({{"b", step}}, 0);
  }
}

void log_fit(const std::string& root) {
  TrainerOptions options = quiet(2, nullptr);
  options.log_every_n_steps = 2;
  options.loggers = {std::make_shared<TensorBoardLogger>(root, TensorBoardLoggerOptions{.name = "fit"})};
  Trainer trainer(options);
  trainer.fit(make_net(), make_loader(), make_loader());
}

TEST_CASE("TensorBoard reads what TensorBoardLogger writes", "[interop][loggers]") {
  if (!has_python()) return;
  const TempFolder folder;
  for (const auto log : {log_run, log_hparams, log_yaml, log_torn, log_resumed, log_both, log_fit}) log(folder.path());
  run_python(CKPTIO_TENSORBOARD_TWIN, {folder.path()});
}

}  // namespace
}  // namespace ckptio::test
