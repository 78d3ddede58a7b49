// SPDX-License-Identifier: Apache-2.0
// EarlyStopping ends runs where Lightning's does, with its messages and its state, and each goes on with the other's
// checkpoints. early_stopping_twin.py is the other side, and says what the cases are.
#include "ckptio/trainer/early_stopping.h"

#include <torch/torch.h>

#include <filesystem>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/trainer/load_from_checkpoint.h"
#include "ckptio/trainer/trainer.h"
#include "support/catch.h"
#include "support/python.h"
#include "support/temp_folder.h"

using namespace ckptio;

namespace {

constexpr std::int64_t kHalf = 2;  // epochs, as in the twin

struct ListNet : TrainingModule {
  ListNet() { p = register_parameter("p", torch::zeros({1})); }
  ListNet(const Dict& of_case, std::int64_t n_before) : ListNet() {
    for (const Value& value : of_case.at("values").as<List>()) values.push_back(value.as<double>());
    validates = of_case.at("trainer").contains("val_check_interval");
    n_logged = n_before;
  }
  void log_next() {
    log("m", torch::tensor(static_cast<float>(values.at(static_cast<std::size_t>(n_logged++)))),
        {.on_step = false, .on_epoch = true});
  }
  torch::Tensor training_step(std::int64_t, std::int64_t batch_idx) {
    if (!validates && batch_idx == 1) log_next();
    return p.sum();
  }
  void validation_step(std::int64_t, std::int64_t) { log_next(); }
  OptimizersAndSchedulers configure_optimizers() override {
    return std::make_shared<torch::optim::SGD>(parameters(), 0.1);
  }

  torch::Tensor p;
  std::vector<double> values;
  bool validates = false;
  std::int64_t n_logged = 0;
};

EarlyStoppingOptions options_of(const Dict& of_case) {
  const Dict& options = of_case.at("options").as<Dict>();
  EarlyStoppingOptions result{.monitor = "m", .verbose = true};
  if (const Value* found = options.find("patience")) result.patience = found->as<std::int64_t>();
  if (const Value* found = options.find("mode")) result.mode = found->as<std::string>();
  if (const Value* found = options.find("min_delta")) result.min_delta = found->as<double>();
  if (const Value* found = options.find("check_finite")) result.check_finite = found->as<bool>();
  if (const Value* found = options.find("stopping_threshold")) result.stopping_threshold = found->as<double>();
  if (const Value* found = options.find("divergence_threshold")) result.divergence_threshold = found->as<double>();
  if (const Value* found = options.find("check_on_train_epoch_end")) {
    result.check_on_train_epoch_end = found->as<bool>();
  }
  return result;
}

bool is_of_early_stopping(std::string_view line) {
  for (const char* begin : {"Metric m", "Monitored metric", "Stopping threshold", "Divergence threshold"}) {
    if (line.starts_with(begin)) return true;
  }
  return false;
}

// What came of it, as the twin tells it; saves a checkpoint at the end, if told to and nothing was stopped.
Dict fit(const Dict& of_case, std::int64_t max_epochs, const std::optional<std::string>& ckpt_path = std::nullopt,
         std::int64_t n_before = 0, const std::string& save_to = "") {
  const Dict& run = of_case.at("trainer").as<Dict>();
  const auto stopper = std::make_shared<EarlyStopping>(options_of(of_case));
  List messages;
  TrainerOptions options{.max_epochs = max_epochs,
                         .min_epochs = run.get("min_epochs", 0).as<std::int64_t>(),
                         .val_check_interval = run.get("val_check_interval", 1.0).as<double>(),
                         .enable_progress_bar = false};
  options.print = [&](std::string_view line) {
    if (is_of_early_stopping(line)) messages.push_back(line);
  };
  options.callbacks = {stopper};
  options.plugins = {std::make_shared<PythonCheckpointIO>()};
  Trainer trainer(options);
  ListNet net(of_case, n_before);
  const std::vector<std::int64_t> train{0, 1}, val{0};
  if (net.validates) {
    trainer.fit(net, train, val, ckpt_path);
  } else {
    trainer.fit(net, train, std::nullopt, ckpt_path);
  }
  if (!save_to.empty() && stopper->stopping_reason() == EarlyStoppingReason::not_stopped) {
    trainer.save_checkpoint(save_to);
  }
  return {{"n_logged", net.n_logged},
          {"epoch", trainer.current_epoch()},
          {"key", stopper->state_key()},
          {"state", stopper->state_dict()},
          {"messages", messages}};
}

std::int64_t n_epochs_of(const Dict& of_case) {
  const auto n_values = static_cast<std::int64_t>(of_case.at("values").size());
  return of_case.at("trainer").as<Dict>().get("val_check_interval", 1.0).as<double>() == 0.5 ? n_values / 2 : n_values;
}

}  // namespace

TEST_CASE("EarlyStopping ends runs where Lightning's does, and each goes on with the other's state", "[interop]") {
  if (!test::has_python()) return;
  const test::TempFolder folder;
  test::run_python(CKPTIO_EARLY_STOPPING_TWIN, {"write", folder.path()});
  const Dict saved = *PythonCheckpointIO().load_checkpoint(folder / "cases.pt");
  std::int64_t number = 0;
  for (const Value& each : saved.at("cases").as<List>()) {
    const Dict& of_case = each.as<Dict>();
    INFO("case " << number << ": " << to_string(of_case.at("options")));
    const Dict& expected = of_case.at("outcome").as<Dict>();
    CHECK(to_string(fit(of_case, n_epochs_of(of_case))) == to_string(expected));
    CHECK(fit(of_case, n_epochs_of(of_case)) == expected);

    const std::string name = "/" + std::to_string(number++) + ".ckpt";
    const Dict half = fit(of_case, kHalf, std::nullopt, 0, folder / ("cpp" + name));
    if (!of_case.at("has_half").as<bool>()) continue;
    const auto n_before = of_case.at("n_before").as<std::int64_t>();
    CHECK(half.at("n_logged") == Value(n_before));
    const Dict rest = fit(of_case, n_epochs_of(of_case), folder.path() + name, n_before);
    CHECK(rest.at("state") == expected.at("state"));
    CHECK(rest.at("epoch") == expected.at("epoch"));
    CHECK(load_from_checkpoint<ListNet>(folder.path() + name)->p.item<float>() != 0);
  }
  test::run_python(CKPTIO_EARLY_STOPPING_TWIN, {"check", folder.path()});
}
