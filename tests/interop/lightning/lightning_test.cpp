// SPDX-License-Identifier: Apache-2.0
// A run that Python's Lightning began goes on here with the losses of the unbroken run, and one begun here goes on in
// Lightning: four models, the optimizers that LibTorch has, and a scheduler each; saved at the end of an epoch, in the
// middle of one, and after fit. lightning_twin.py is the other side, and says what the cases are.
#include <torch/torch.h>

#include <functional>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/lr_scheduler.h"
#include "ckptio/state.h"
#include "ckptio/trainer/trainer.h"
#include "support/catch.h"
#include "support/python.h"
#include "support/temp_folder.h"

using namespace ckptio;

namespace {

constexpr std::int64_t kBatches = 8, kEpochs = 4, kMidStep = 11;  // as in lightning_twin.py
constexpr double kTolerance = 1e-6;

struct LstmImpl : torch::nn::Module {
  LstmImpl() {
    lstm = register_module("lstm", torch::nn::LSTM(torch::nn::LSTMOptions(4, 6).num_layers(2).batch_first(true)));
    head = register_module("head", torch::nn::Linear(6, 1));
  }
  torch::Tensor forward(const torch::Tensor& x) { return head(std::get<0>(lstm(x.view({8, 4, 4}))).select(1, -1)); }
  torch::nn::LSTM lstm{nullptr};
  torch::nn::Linear head{nullptr};
};
TORCH_MODULE(Lstm);

struct TransformerNetImpl : torch::nn::Module {
  TransformerNetImpl() {
    const auto layer = torch::nn::TransformerEncoderLayerOptions(8, 2).dim_feedforward(16).dropout(0.0);
    encoder = register_module("encoder", torch::nn::TransformerEncoder(torch::nn::TransformerEncoderLayer(layer), 2));
    head = register_module("head", torch::nn::Linear(8, 1));
  }
  torch::Tensor forward(const torch::Tensor& x) { return head(encoder(x.view({8, 2, 8}).transpose(0, 1)).mean(0)); }
  torch::nn::TransformerEncoder encoder{nullptr};
  torch::nn::Linear head{nullptr};
};
TORCH_MODULE(TransformerNet);

// Names its parts as Sequential does, and AnyModule takes it.
struct LayersImpl : torch::nn::SequentialImpl {
  using SequentialImpl::SequentialImpl;
  torch::Tensor forward(const torch::Tensor& x) { return SequentialImpl::forward(x); }
};
TORCH_MODULE(Layers);

torch::nn::AnyModule make_net(const std::string& name) {
  using namespace torch::nn;
  if (name.starts_with("mlp")) return AnyModule(Layers(Linear(16, 8), ReLU(), Linear(8, 1)));
  if (name.starts_with("cnn")) {
    return AnyModule(Layers(Unflatten(UnflattenOptions(1, {1, 4, 4})), Conv2d(1, 4, 3), BatchNorm2d(4), ReLU(),
                            Flatten(), Linear(16, 1)));
  }
  if (name.starts_with("lstm")) return AnyModule(Lstm());
  return AnyModule(TransformerNet());
}

OptimizersAndSchedulers make_optimizer(const std::string& name, const std::vector<torch::Tensor>& parameters) {
  using namespace torch::optim;
  if (name == "mlp_adam_step") {
    auto adam = std::make_shared<Adam>(parameters, AdamOptions(1e-2));
    return {{adam}, {std::make_shared<ckptio::StepLR>(*adam, 1, 0.5)}};
  }
  if (name == "mlp_sgd_onecycle") {
    auto sgd = std::make_shared<SGD>(parameters, SGDOptions(0.1).momentum(0.9));
    OneCycleLROptions options{.max_lr = 0.2};
    options.total_steps = 40;
    return {{sgd}, {{std::make_shared<OneCycleLR>(*sgd, options), {.interval = "step"}}}};
  }
  if (name == "cnn_adamw_cosine") {
    auto adamw = std::make_shared<AdamW>(parameters, AdamWOptions(1e-2).weight_decay(0.1));
    return {{adamw}, {std::make_shared<CosineAnnealingLR>(*adamw, 4)}};
  }
  if (name == "lstm_rmsprop_multistep") {
    auto rmsprop = std::make_shared<RMSprop>(parameters, RMSpropOptions(1e-2).momentum(0.5).centered(true));
    return {{rmsprop}, {std::make_shared<MultiStepLR>(*rmsprop, std::vector<std::int64_t>{1, 2, 2}, 0.5)}};
  }
  if (name == "transformer_adam_exponential") {
    auto adam = std::make_shared<Adam>(parameters, AdamOptions(1e-2).amsgrad(true));
    return {{adam}, {std::make_shared<ExponentialLR>(*adam, 0.7)}};
  }
  if (name == "mlp_adagrad_linear") {
    auto adagrad = std::make_shared<Adagrad>(parameters, AdagradOptions(0.1).lr_decay(0.01));
    return {{adagrad}, {std::make_shared<LinearLR>(*adagrad, 0.5, 1.0, 3)}};
  }
  if (name == "mlp_lbfgs_constant") {
    auto lbfgs = std::make_shared<LBFGS>(parameters, LBFGSOptions(0.1).max_iter(3).history_size(4));
    return {{lbfgs}, {std::make_shared<ConstantLR>(*lbfgs, 0.5, 2)}};
  }
  if (name == "mlp_sgd_plateau") {
    auto sgd = std::make_shared<SGD>(parameters, SGDOptions(0.1));
    ReduceLROnPlateauOptions options;
    options.factor = 0.5;
    options.patience = 0;
    options.threshold = 0.9;
    return {{sgd}, {{std::make_shared<ReduceLROnPlateau>(*sgd, options), {.monitor = "val_loss"}}}};
  }
  if (name == "mlp_sgd_lambda") {
    auto sgd = std::make_shared<SGD>(parameters, SGDOptions(0.1).momentum(0.9).nesterov(true));
    const auto rate = [](std::int64_t epoch) { return 1 / (1 + static_cast<double>(epoch)); };
    return {{sgd}, {std::make_shared<LambdaLR>(*sgd, rate)}};
  }
  if (name == "mlp_adamw_sequential") {
    auto adamw = std::make_shared<AdamW>(parameters, AdamWOptions(1e-2));
    std::vector<std::shared_ptr<ckptio::LRScheduler>> parts{
        std::make_shared<LinearLR>(*adamw, 0.1, 1.0, 4),
        std::make_shared<MultiStepLR>(*adamw, std::vector<std::int64_t>{5, 9}, 0.5)};
    auto sequence = std::make_shared<SequentialLR>(*adamw, parts, std::vector<std::int64_t>{4});
    return {{adamw}, {{sequence, {.interval = "step"}}}};
  }
  REQUIRE(name == "mlp_adam_warm_restarts");
  auto adam = std::make_shared<Adam>(parameters, AdamOptions(1e-2));
  return {{adam}, {std::make_shared<CosineAnnealingWarmRestarts>(*adam, 2, 2)}};
}

struct Data {
  torch::Tensor x, y;
};

struct TwinModule : TrainingModule {
  TwinModule(std::string case_name, Data given)
      : name(std::move(case_name)), data(std::move(given)), net(make_net(name)) {
    register_module("net", net.ptr());
    // Module::to would also convert num_batches_tracked, which Python's leaves an integer.
    for (torch::Tensor& parameter : parameters()) parameter.set_data(parameter.to(torch::kFloat64));
    for (torch::Tensor& buffer : buffers()) {
      if (buffer.is_floating_point()) buffer.set_data(buffer.to(torch::kFloat64));
    }
    save_hyperparameters({{"case", name}, {"net_width", 12}});
  }

  torch::Tensor loss_of(std::int64_t batch_idx) {
    return torch::mse_loss(net.forward(data.x[batch_idx]), data.y[batch_idx]);
  }
  torch::Tensor training_step(std::int64_t, std::int64_t batch_idx) {
    auto loss = loss_of(batch_idx);
    losses.push_back(Tuple{batch_idx, loss.item<double>()});
    return loss;
  }
  void validation_step(std::int64_t, std::int64_t batch_idx) { log("val_loss", loss_of(batch_idx)); }
  OptimizersAndSchedulers configure_optimizers() override { return make_optimizer(name, parameters()); }

  std::string name;
  Data data;
  torch::nn::AnyModule net;
  List losses;  // (batch, loss) of every training_step
};

// Saves where lightning_twin.py does, and notes which losses come after.
struct SaveOnTheWay : Callback {
  SaveOnTheWay(std::string where, TwinModule& twin) : folder(std::move(where)), module(twin) {}

  void save(Trainer& trainer, const std::string& name) {
    trainer.save_checkpoint(folder + "/" + name + ".ckpt");
    n_before[name] = static_cast<std::int64_t>(module.losses.size());
  }
  void on_train_batch_end(Trainer& trainer, TrainingModule&, const at::Tensor&, std::int64_t) override {
    if (trainer.global_step() == kMidStep) save(trainer, "mid");
  }
  void on_train_epoch_end(Trainer& trainer, TrainingModule&) override {
    if (trainer.current_epoch() == 0) save(trainer, "epoch");
  }
  bool saves_checkpoints() const override { return true; }

  std::string folder;
  TwinModule& module;
  Dict n_before;
};

void fit(TwinModule& module, std::int64_t max_epochs, const std::optional<std::string>& ckpt_path,
         std::vector<std::shared_ptr<Callback>> callbacks = {}, const std::string& save_after = "") {
  Trainer trainer({.max_epochs = max_epochs,
                   .enable_progress_bar = false,
                   .print = [](std::string_view) {},
                   .callbacks = std::move(callbacks),
                   .plugins = {std::make_shared<PythonCheckpointIO>()}});
  const std::vector<std::int64_t> batches{0, 1, 2, 3, 4, 5, 6, 7};
  trainer.fit(module, batches, batches, ckpt_path);
  CHECK(trainer.current_epoch() == max_epochs);
  CHECK(trainer.global_step() == max_epochs * kBatches);
  if (!save_after.empty()) trainer.save_checkpoint(save_after);
}

torch::Tensor output_of(TwinModule& module) {
  const torch::NoGradGuard no_grad;
  module.eval();
  torch::Tensor output = module.net.forward(module.data.x[0]);
  module.train();
  return output;
}

double largest_difference(const torch::Tensor& output, const Value& expected) {
  return (output - expected.as<at::Tensor>()).abs().max().item<double>();
}

// The last losses.size() of `expected`.
void check_losses(const List& losses, const List& expected) {
  REQUIRE(losses.size() >= 20);
  REQUIRE(losses.size() <= expected.size());
  const std::size_t n_before = expected.size() - losses.size();
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    const Value& wanted = expected.at(index + static_cast<std::int64_t>(n_before));
    INFO("loss " << i);
    CHECK(losses.at(index).at(0) == wanted.at(0));
    CHECK(std::abs(losses.at(index).at(1).as<double>() - wanted.at(1).as<double>()) <= kTolerance);
  }
}

List after(const List& losses, std::int64_t n_before) { return List(losses.begin() + n_before, losses.end()); }

const std::vector<std::string> kCases{"mlp_adam_step",
                                      "mlp_sgd_onecycle",
                                      "cnn_adamw_cosine",
                                      "lstm_rmsprop_multistep",
                                      "transformer_adam_exponential",
                                      "mlp_adagrad_linear",
                                      "mlp_lbfgs_constant",
                                      "mlp_sgd_plateau",
                                      "mlp_adam_warm_restarts",
                                      "mlp_sgd_lambda",
                                      "mlp_adamw_sequential"};

// What C++ does for the case in `folder`: goes on from Lightning's checkpoints, and leaves its own for Lightning.
void run_case(const std::string& name, const std::string& folder, const Data& data) {
  PythonCheckpointIO io;
  const Dict python = *io.load_checkpoint(folder + "/run.pt", {.weights_only = true});
  const List& python_losses = python.at("losses").as<List>();
  // Lightning saves in on_train_epoch_end before a scheduler with a metric has stepped, and loses that step itself; the
  // Trainer makes up for it.
  for (const char* saved : {"epoch", "mid", "after"}) {
    INFO(name << ": goes on from Lightning's " << saved << ".ckpt");
    TwinModule module(name, data);
    fit(module, kEpochs, folder + "/" + saved + ".ckpt");
    check_losses(module.losses, python_losses);
    CHECK(largest_difference(output_of(module), python.at("output")) <= kTolerance);
  }

  INFO(name << ": from the beginning");
  const std::string cpp = folder + "/cpp";
  const Dict init = *io.load_checkpoint(folder + "/init.pt");
  TwinModule module(name, data);
  load_state_dict(module, init);
  CHECK(largest_difference(output_of(module), python.at("initial_output")) <= 1e-12);
  auto saver = std::make_shared<SaveOnTheWay>(cpp, module);
  fit(module, kEpochs, std::nullopt, {saver}, cpp + "/after_all.ckpt");
  check_losses(module.losses, python_losses);
  TwinModule first_epoch(name, data);
  load_state_dict(first_epoch, init);
  fit(first_epoch, 1, std::nullopt, {}, cpp + "/after.ckpt");
  saver->n_before["after"] = static_cast<std::int64_t>(first_epoch.losses.size());

  Dict losses_after;
  for (const auto& [saved, n_before] : saver->n_before) {
    losses_after[saved] = after(module.losses, n_before.as<std::int64_t>());
  }
  io.save_checkpoint(state_dict(module), cpp + "/weights.pt");
  io.save_checkpoint(
      {{"losses_after", losses_after}, {"global_step", kEpochs * kBatches}, {"output", output_of(module)}},
      cpp + "/run.ckpt");
}

}  // namespace

TEST_CASE("Runs go from Lightning to ckptio's Trainer and back with the losses of the unbroken run", "[interop]") {
  if (!test::has_python()) return;
  const test::TempFolder folder;
  test::run_python(CKPTIO_LIGHTNING_TWIN, {"write", folder.path()});
  const Dict saved = *PythonCheckpointIO().load_checkpoint(folder / "data.pt");
  const Data data{saved.at("x").as<at::Tensor>(), saved.at("y").as<at::Tensor>()};
  for (const std::string& name : kCases) run_case(name, folder / name, data);
  test::run_python(CKPTIO_LIGHTNING_TWIN, {"check", folder.path()});
}
