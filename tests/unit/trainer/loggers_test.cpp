// SPDX-License-Identifier: Apache-2.0
// CSVLogger, LearningRateMonitor, EarlyStopping and the progress bar, in runs. What Lightning and TensorBoard say to it
// is tested in tests/interop.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "ckptio/trainer/csv_logger.h"
#include "ckptio/trainer/early_stopping.h"
#include "ckptio/trainer/learning_rate_monitor.h"
#include "ckptio/trainer/progress_bar.h"
#include "ckptio/trainer/tensorboard_logger.h"
#include "loggers/csv_file.h"
#include "small_run.h"
#include "support/catch.h"
#include "support/temp_folder.h"
#include "trainer/hparams_yaml.h"

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("CSVLogger writes a table, and goes on with it where its version is named", "[loggers]") {
  const TempFolder folder;
  {
    CSVLogger logger(folder.path());
    CHECK(logger.save_dir() == folder.path());
    CHECK(logger.name() == "lightning_logs");
    CHECK(logger.version() == "version_0");
    CHECK(logger.log_dir() == folder / "lightning_logs/version_0");
    logger.log_metrics({{"loss", 0.5}, {"epoch", 0}}, 49);
    CHECK_FALSE(fs::exists(logger.log_dir() + "/metrics.csv"));
    logger.log_metrics({{"loss", 0.1f}, {"epoch", 0}}, 99);  // the 100th step
    CHECK(text_of(logger.log_dir() + "/metrics.csv") == "epoch,loss,step\n0,0.5,49\n0,0.10000000149011612,99\n");
    logger.log_metrics({{"val, \"all\"", std::nan("")}}, 99);
  }
  const std::string path = folder / "lightning_logs/version_0/metrics.csv";
  CHECK(text_of(path) == "epoch,loss,step,\"val, \"\"all\"\"\"\n0,0.5,49,\n0,0.10000000149011612,99,\n,,99,nan\n");
  CSVLogger resumed(folder.path(), {.version = 0, .flush_logs_every_n_steps = 1});
  resumed.log_metrics({{"loss", 2}, {"epoch", 1}}, 100);
  CHECK_THAT(text_of(path), EndsWith(",,99,nan\n1,2.0,100,\n"));
  CHECK(CSVLogger(folder.path()).version() == "version_1");
  CHECK(CSVLogger(folder.path(), {.name = ""}).log_dir() == folder / "version_0");

  CSVLogger prefixed(folder.path(), {.version = "mine", .prefix = "a"});
  prefixed.log_metrics({{"loss", 1}}, 0);
  prefixed.finalize("failed");
  CHECK(text_of(folder / "lightning_logs/mine/metrics.csv") == "a-loss,step\n1.0,0\n");
  CHECK_THROWS_AS(CSVLogger(folder.path(), {.flush_logs_every_n_steps = 0}), ValueError);
}

TEST_CASE("Hyper-parameters are written as YAML", "[loggers]") {
  const TempFolder folder;
  CSVLogger logger(folder.path(), {.name = "run"});
  logger.log_hyperparams({{"lr", 1e-5},
                          {"layers", List{64, 32}},
                          {"name", "a: b"},
                          {"optimizer", Dict{{"kind", "adam"}, {"betas", Tuple{0.9, 0.999}}, {"options", Dict{}}}},
                          {"weight", torch::ones({2})}});
  CHECK(text_of(folder / "run/version_0/hparams.yaml") == R"yaml(lr: 1.0e-05
layers:
  - 64
  - 32
name: "a: b"
optimizer:
  kind: adam
  betas:
    - 0.9
    - 0.999
  options: {}
weight: "Tensor(float32 [2])"
)yaml");
  CHECK(detail::to_yaml({}) == "{}\n");
}

// Two epochs of six steps; the table that a CSVLogger wrote, without its columns' names.
detail::CsvText fit_with(std::shared_ptr<Callback> callback, const TempFolder& folder, std::int64_t log_every = 2,
                         std::shared_ptr<SmallNet> net = make_net()) {
  TrainerOptions options = quiet(2, nullptr, {std::move(callback)});
  options.log_every_n_steps = log_every;
  const auto logger = std::make_shared<CSVLogger>(folder.path(), CSVLoggerOptions{.name = "", .version = ""});
  options.loggers = {logger};
  Trainer trainer(options);
  trainer.fit(net, make_loader());
  return detail::parse_csv(text_of(folder / "metrics.csv"), "metrics.csv");
}

// Step and value of each row that has the column.
std::vector<std::pair<std::string, std::string>> column(const detail::CsvText& csv, const std::string& name) {
  const auto& names = csv.lines.at(0);
  const auto at = static_cast<std::size_t>(std::ranges::find(names, name) - names.begin());
  const auto step = static_cast<std::size_t>(std::ranges::find(names, "step") - names.begin());
  std::vector<std::pair<std::string, std::string>> cells;
  if (at == names.size()) return cells;
  for (std::size_t i = 1; i < csv.lines.size(); ++i) {
    if (!csv.lines[i][at].empty()) cells.emplace_back(csv.lines[i][step], csv.lines[i][at]);
  }
  return cells;
}

using Cells = std::vector<std::pair<std::string, std::string>>;

// One optimizer with a rate that halves each step, one of two groups without a scheduler, one of the first's class.
struct ThreeOptimizers : SmallNet {
  OptimizersAndSchedulers configure_optimizers() override {
    using namespace torch::optim;
    auto sgd = std::make_shared<SGD>(fc1->parameters(), SGDOptions(0.5).momentum(0.9));
    auto halves = std::make_shared<ExponentialLR>(*sgd, 0.5);
    std::vector<OptimizerParamGroup> groups{OptimizerParamGroup(norm->parameters()),
                                            OptimizerParamGroup(fc2->parameters())};
    groups[1].set_options(std::make_unique<AdamOptions>(AdamOptions(0.25).betas({0.8, 0.9}).weight_decay(0.125)));
    auto adam = std::make_shared<Adam>(groups, AdamOptions(0.75));
    auto second = std::make_shared<SGD>(fc2->parameters(), SGDOptions(0.0625));
    return {{adam, sgd, second}, {{halves, {.interval = "step"}}}};
  }
};

TEST_CASE("LearningRateMonitor writes the rates that steps and epochs begin with", "[loggers]") {
  SECTION("of a step by default as its scheduler's interval says") {
    const TempFolder folder;
    const auto csv = fit_with(std::make_shared<LearningRateMonitor>(), folder, 2, std::make_shared<ThreeOptimizers>());
    CHECK(column(csv, "lr-SGD") == Cells{{"1", "0.25"},
                                         {"3", "0.0625"},
                                         {"5", "0.015625"},
                                         {"7", "0.00390625"},
                                         {"9", "0.0009765625"},
                                         {"11", "0.000244140625"}});
    CHECK(column(csv, "lr-Adam/pg1").front() == std::pair<std::string, std::string>{"0", "0.75"});
    CHECK(column(csv, "lr-Adam/pg2").size() == 8);  // each second step and both epochs
    CHECK(column(csv, "lr-SGD-1")[1] == std::pair<std::string, std::string>{"1", "0.0625"});
    CHECK(column(csv, "loss_step").at(1).first == "3");  // beside the metrics of the same step
  }
  SECTION("of epochs, with momentum and weight decay") {
    const TempFolder folder;
    const auto csv = fit_with(std::make_shared<LearningRateMonitor>(LearningRateMonitorOptions{
                                  .logging_interval = "epoch", .log_momentum = true, .log_weight_decay = true}),
                              folder, 2, std::make_shared<ThreeOptimizers>());
    CHECK(column(csv, "lr-SGD") == Cells{{"0", "0.5"}, {"6", "0.0078125"}});
    CHECK(column(csv, "lr-SGD-momentum") == Cells{{"0", "0.9"}, {"6", "0.9"}});
    CHECK(column(csv, "lr-Adam/pg2-momentum") == Cells{{"0", "0.8"}, {"6", "0.8"}});
    CHECK(column(csv, "lr-Adam/pg2-weight_decay") == Cells{{"0", "0.125"}, {"6", "0.125"}});
  }
  SECTION("and is refused without a logger, or for another interval") {
    Trainer trainer(quiet(1, nullptr, {std::make_shared<LearningRateMonitor>()}));
    CHECK_THROWS_AS(trainer.fit(make_net(), make_loader()), MisconfigurationError);
    CHECK_THROWS_AS(LearningRateMonitor(LearningRateMonitorOptions{.logging_interval = "batch"}),
                    MisconfigurationError);
  }
}

TEST_CASE("Learning rates are metrics for callbacks too", "[loggers]") {
  const TempFolder folder;
  double seen = 0;
  struct Look : Callback {
    explicit Look(double& seen) : seen(seen) {}
    void on_train_epoch_end(Trainer& trainer, TrainingModule&) override {
      seen = trainer.callback_metrics().at("lr-SGD-1");  // of the scheduler that steps each epoch
    }
    double& seen;
  };
  TrainerOptions options = quiet(1, nullptr, {std::make_shared<LearningRateMonitor>(), std::make_shared<Look>(seen)});
  options.loggers = {std::make_shared<CSVLogger>(folder.path())};
  Trainer trainer(options);
  trainer.fit(make_net(), make_loader());
  CHECK(seen == 0.1);
}

// Logs the values one per epoch, with `log` in a validation.
struct ListNet : SmallNet {
  explicit ListNet(std::vector<double> given) : values(std::move(given)) {}
  void validation_step(const Example&, std::int64_t batch_idx) {
    if (batch_idx == 0) log("m", values.at(static_cast<std::size_t>(current_epoch())));
  }
  std::vector<double> values;
};

std::int64_t n_epochs_run(EarlyStoppingOptions options, std::vector<double> values, TrainerOptions of_run = {}) {
  const auto net = std::make_shared<ListNet>(values);
  of_run.max_epochs = static_cast<std::int64_t>(values.size());
  of_run.enable_progress_bar = false;
  of_run.callbacks = {std::make_shared<EarlyStopping>(std::move(options))};
  if (!of_run.print) of_run.print = [](std::string_view) {};
  Trainer trainer(of_run);
  trainer.fit(net, make_loader(), make_loader());
  return trainer.current_epoch();
}

TEST_CASE("EarlyStopping ends training when a metric stops getting better", "[early_stopping]") {
  CHECK(n_epochs_run({.monitor = "m", .patience = 2}, {3, 2, 2.5, 2, 1, 1}) == 4);
  CHECK(n_epochs_run({.monitor = "m", .patience = 2, .mode = "max"}, {3, 2, 2.5, 9}) == 3);
  CHECK(n_epochs_run({.monitor = "m", .check_finite = true}, {3, INFINITY, 1}) == 2);
  CHECK(n_epochs_run({.monitor = "m", .patience = 1}, {1, 2, 3, 4}, {.min_epochs = 3}) == 3);
  CHECK(n_epochs_run({.monitor = "m", .patience = 1}, {1, 2, 3}, {.check_val_every_n_epoch = 2}) == 3);
}

TEST_CASE("EarlyStopping sees what the module logs at the end of the epoch", "[early_stopping]") {
  struct Net : SmallNet {
    void on_train_epoch_end() override {
      log("m", current_epoch() < 2 ? 1.0 - static_cast<double>(current_epoch()) : 9);
    }
  };
  const auto stopper = std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "m", .patience = 1});
  Trainer trainer(quiet(5, nullptr, {stopper}));
  trainer.fit(std::make_shared<Net>(), make_loader());
  CHECK(trainer.current_epoch() == 3);
}

TEST_CASE("EarlyStopping says which metrics there are where its own is missing", "[early_stopping]") {
  CHECK_THROWS_WITH(
      n_epochs_run({.monitor = "n"}, {1, 2}),
      StartsWith("Early stopping conditioned on metric `n` which is not available. Pass in or modify your "
                 "`EarlyStopping` callback to use any of the following: `") &&
          ContainsSubstring("`, `m`"));
  std::vector<std::string> printed;
  TrainerOptions options;
  options.print = [&](std::string_view line) { printed.emplace_back(line); };
  CHECK(n_epochs_run({.monitor = "n", .verbose = true, .strict = false}, {1, 2}, options) == 2);
  REQUIRE(printed.size() == 2);
  CHECK_THAT(printed[0], StartsWith("Early stopping conditioned on metric `n`"));
  options.fast_dev_run = 1;
  CHECK_NOTHROW(n_epochs_run({.monitor = "n"}, {1}, options));
  CHECK_THROWS_AS(EarlyStopping({.monitor = "m", .mode = "mean"}), MisconfigurationError);
  CHECK_THROWS_AS(EarlyStopping({}), ValueError);
}

TEST_CASE("EarlyStopping's state is taken whole or not at all", "[early_stopping]") {
  EarlyStopping stopper({.monitor = "m"});
  CHECK(stopper.state_key() == "EarlyStopping{'monitor': 'm', 'mode': 'min'}");
  const Dict before = stopper.state_dict();
  CHECK(before.at("best_score").as<at::Tensor>().scalar_type() == torch::kFloat);
  Dict state{
      {"wait_count", 2}, {"stopped_epoch", 0}, {"best_score", torch::tensor(0.1, torch::kDouble)}, {"patience", 7}};
  stopper.load_state_dict(state);  // as older Lightnings write it
  CHECK(stopper.best_score() == 0.1);
  CHECK(stopper.patience() == 7);
  CHECK(stopper.state_dict().at("best_score") == state.at("best_score"));  // no float32's value
  const Dict loaded = stopper.state_dict();
  for (const Value& bad : List{List{}, torch::ones({2}), "x", nullptr}) {
    state["best_score"] = bad;
    CHECK_THROWS_AS(stopper.load_state_dict(state), Error);
  }
  state["best_score"] = 1;
  state["stopping_reason"] = 5;
  CHECK_THROWS_AS(stopper.load_state_dict(state), ValueError);
  state.erase("patience");
  CHECK_THROWS_AS(stopper.load_state_dict(state), KeyError);
  CHECK(stopper.state_dict() == loaded);
}

std::string shown(const ProgressBarOptions& options, const std::function<void(Trainer&, SmallNet&)>& run) {
  std::ostringstream out;
  ProgressBarOptions with_out = options;
  with_out.out = &out;
  with_out.refresh_interval_ms = 0;
  Trainer trainer(quiet(2, nullptr, {std::make_shared<ProgressBar>(with_out)}));
  run(trainer, *make_net());
  return out.str();
}

struct Evaluated : SmallNet {
  void test_step(const Example&, std::int64_t) { log("acc", 0.5, {.prog_bar = true}); }
  torch::Tensor predict_step(const Example& batch, std::int64_t) { return forward(batch.data); }
};

TEST_CASE("The progress bar shows validation, test and predict", "[progress]") {
  Evaluated net;
  const auto evaluate = [&](Trainer& trainer, SmallNet&) {
    trainer.validate(net, make_loader());
    trainer.test(net, make_loader());
    trainer.predict(net, make_loader());
  };
  const std::string lines = shown({.terminal = false}, evaluate);
  CHECK(std::ranges::count(lines, '\n') == 3);
  CHECK_THAT(lines, StartsWith("validate: 6 batches in ") && ContainsSubstring("\ntest: 6 batches in ") &&
                        ContainsSubstring(", acc=0.5\npredict: 6 batches in "));
  const std::string bars = shown({.terminal = true}, evaluate);
  CHECK_THAT(bars, ContainsSubstring("\r\x1b[2KValidation  [") && ContainsSubstring("\r\x1b[2KTest  [") &&
                       ContainsSubstring("\r\x1b[2KPredict  ["));
  const std::string fit = shown(
      {.terminal = true}, [](Trainer& trainer, SmallNet& net) { trainer.fit(net, make_loader(), make_loader()); });
  CHECK_THAT(fit, ContainsSubstring("\r\x1b[2KValidation  [...###..................]  3  ") &&
                      ContainsSubstring("\r\x1b[2KValidation  [############............]  3/6  ") &&
                      ContainsSubstring("\r\x1b[2Kepoch 1: 6 batches in "));
  CHECK(std::ranges::count(fit, '\n') == 2);
}

TEST_CASE("A bar is never longer than the terminal is wide", "[progress]") {
  const std::string bars = shown({.terminal = true, .n_columns = 20},
                                 [](Trainer& trainer, SmallNet& net) { trainer.fit(net, make_loader()); });
  CHECK_THAT(bars, ContainsSubstring("\r\x1b[2KEpoch 1  [########.\r\x1b[2K"));
}

TEST_CASE("The progress bar tells what a save and a load cost, if asked", "[progress]") {
  const TempFolder folder;
  const std::string path = folder / "last.ckpt";
  const std::string lines = shown({.terminal = false, .verbose = true}, [&](Trainer& trainer, SmallNet& net) {
    trainer.fit(net, make_loader());
    trainer.save_checkpoint(path);
    trainer.validate(net, make_loader(), path);
  });
  CHECK_THAT(lines, ContainsSubstring("\nsaved " + path + ": 0.0 MB, stalled ") && ContainsSubstring(" ms, staging ") &&
                        ContainsSubstring(" ms, writing ") && ContainsSubstring(" ms, flushing ") &&
                        ContainsSubstring("\nloaded " + path + ": 0.0 MB, loading "));
}

}  // namespace
}  // namespace ckptio::test
