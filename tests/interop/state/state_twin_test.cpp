// SPDX-License-Identifier: Apache-2.0
// States that Python's torch.optim, lr_scheduler, nn and RNG write are loaded here and go on as in Python; states of
// ours are loaded by Python and go on as here. twin.py is the other side.
//
// The bridge is of these tests alone: Python's files are read by torch::pickle_load, ours are Python expressions.
#include <torch/torch.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <sstream>

#include "ckptio/lr_scheduler.h"
#include "ckptio/rng_state.h"
#include "ckptio/state.h"
#include "state/describe.h"
#include "support/catch.h"
#include "support/python.h"
#include "support/temp_folder.h"

using namespace ckptio;

namespace {

constexpr int kBefore = 5, kAfter = 20, kEpochs = 14;  // as in twin.py

struct Twin {
  test::TempFolder folder;
  Twin() { run("write"); }
  void run(const std::string& command) const { test::run_python(CKPTIO_STATE_TWIN, {command, folder.path()}); }

  Dict read(const std::string& name) const {
    std::ifstream file(folder / name, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    return Value::from_ivalue(torch::pickle_load(bytes)).as<Dict>();
  }

  // Names of the cases whose files begin with `prefix`.
  std::vector<std::string> cases(const std::string& prefix) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      const std::string name = entry.path().stem().string();
      if (entry.path().extension() == ".pt" && name.starts_with(prefix)) names.push_back(name.substr(prefix.size()));
    }
    return names;
  }
};

std::string number(double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::ostringstream out;
  out.precision(17);
  out << value;
  return out.str().find_first_of(".en") == std::string::npos ? out.str() + ".0" : out.str();
}

// A Python expression for `value`.
void print(std::ostream& out, const Value& value);

template <class Items>
void print_items(std::ostream& out, const Items& items) {
  for (const Value& item : items) {
    print(out, item);
    out << ", ";
  }
}

void print(std::ostream& out, const at::Tensor& tensor) {
  out << "T('" << ckptio::detail::dtype_name(tensor.scalar_type()) << "', " << tensor.sizes() << ", [";
  const at::Tensor values = tensor.to(torch::kDouble).flatten().contiguous();
  for (std::int64_t i = 0; i < values.numel(); ++i) out << number(values.data_ptr<double>()[i]) << ", ";
  out << "])";
}

void print(std::ostream& out, const Value& value) {
  if (value.is<at::Tensor>()) {
    print(out, value.as<at::Tensor>());
  } else if (value.is<double>()) {
    out << number(value.as<double>());
  } else if (value.is<List>()) {
    out << '[';
    print_items(out, value.as<List>());
    out << ']';
  } else if (value.is<Tuple>()) {
    out << '(';
    print_items(out, value.as<Tuple>());
    out << ')';
  } else if (value.is<Dict>()) {
    out << '{';
    for (const auto& [key, item] : value.as<Dict>()) {
      print(out, key);
      out << ": ";
      print(out, item);
      out << ", ";
    }
    out << '}';
  } else {
    out << value;
  }
}

void write(const Twin& twin, const std::string& name, const Dict& value) {
  std::ofstream file(twin.folder / (name + ".py"));
  print(file, Value(value));
  REQUIRE(file.flush());
}

// ------------------------------------------------------------------------------------------------------ optimizers

using torch::Tensor;

std::vector<Tensor> params_of(const Value& saved) {
  std::vector<Tensor> params;
  for (const Value& param : saved.as<List>()) params.push_back(param.as<Tensor>().clone().requires_grad_());
  return params;
}

List detached(const std::vector<Tensor>& params) {
  List result;
  for (const Tensor& param : params) result.push_back(param.detach().clone());
  return result;
}

// With options other than the saved ones.
std::unique_ptr<torch::optim::Optimizer> make_optimizer(const Dict& twin_case, const std::vector<Tensor>& params) {
  using namespace torch::optim;
  std::vector<OptimizerParamGroup> groups;
  if (twin_case.at("two_groups").as<bool>()) {
    groups.emplace_back(std::vector{params[2]});
    groups.emplace_back(std::vector{params[0], params[1], params[3]});
  } else {
    groups.emplace_back(params);
  }
  const std::string& name = twin_case.at("optimizer").as<std::string>();
  if (name == "SGD") return std::make_unique<SGD>(groups, SGDOptions(0.5));
  if (name == "Adam") return std::make_unique<Adam>(groups);
  if (name == "AdamW") return std::make_unique<AdamW>(groups);
  if (name == "RMSprop") return std::make_unique<RMSprop>(groups);
  if (name == "Adagrad") return std::make_unique<Adagrad>(groups);
  return std::make_unique<LBFGS>(groups);
}

void train(const std::vector<Tensor>& params, torch::optim::Optimizer& optimizer, int first_step, int n_steps) {
  for (int step = first_step; step < first_step + n_steps; ++step) {
    const Tensor x = torch::linspace(step, step + 1, 32, torch::kDouble).view({8, 4}).cos();
    const Tensor y = x.slice(1, 0, 2) * 0.5;
    optimizer.step([&] {
      optimizer.zero_grad();
      const Tensor hidden = torch::tanh(x.matmul(params[0]) + params[1]);
      Tensor loss = (hidden.slice(1, 0, 2).matmul(params[2]) - y).pow(2).mean();
      loss.backward();
      return loss;
    });
  }
}

double largest_difference(const std::vector<Tensor>& params, const Value& expected) {
  double largest = 0;
  for (std::size_t i = 0; i < params.size(); ++i) {
    const Tensor difference = (params[i] - expected[static_cast<std::int64_t>(i)].as<Tensor>()).abs();
    largest = std::max(largest, difference.max().item<double>());
  }
  return largest;
}

// ------------------------------------------------------------------------------------------------------ schedulers

using Scheduler = std::shared_ptr<LRScheduler>;
using torch::optim::Optimizer;

Scheduler make_sequence(const std::string& name, Optimizer& o) {
  using Parts = std::vector<Scheduler>;
  if (name == "sequential") {
    Parts parts{std::make_shared<LinearLR>(o, 0.1, 1.0, 3), std::make_shared<CosineAnnealingLR>(o, 4),
                std::make_shared<ExponentialLR>(o, 0.8)};
    return std::make_shared<SequentialLR>(o, parts, std::vector<std::int64_t>{3, 8});
  }
  if (name == "sequential_all") {
    Parts parts{std::make_shared<ConstantLR>(o, 0.5, 2), std::make_shared<StepLR>(o, 2, 0.5),
                std::make_shared<MultiStepLR>(o, std::vector<std::int64_t>{1}, 0.5),
                std::make_shared<LambdaLR>(o, [](std::int64_t epoch) { return std::pow(0.93, epoch); }),
                std::make_shared<CosineAnnealingWarmRestarts>(o, 2)};
    return std::make_shared<SequentialLR>(o, parts, std::vector<std::int64_t>{2, 5, 7, 9});
  }
  Parts parts{std::make_shared<LinearLR>(o, 0.1, 1.0, 3),
              std::make_shared<OneCycleLR>(o, OneCycleLROptions{.max_lr = 0.2, .total_steps = 20}),
              std::make_shared<ExponentialLR>(o, 0.8)};
  return std::make_shared<SequentialLR>(o, parts, std::vector<std::int64_t>{3, 9});
}

Scheduler make_scheduler(const std::string& name, Optimizer& o) {
  if (name == "step") return std::make_shared<StepLR>(o, 3, 0.5);
  if (name == "multi_step") return std::make_shared<MultiStepLR>(o, std::vector<std::int64_t>{2, 5, 5, 9}, 0.3);
  if (name == "constant") return std::make_shared<ConstantLR>(o, 0.3, 4);
  if (name == "linear") return std::make_shared<LinearLR>(o, 0.1, 0.9, 7);
  if (name == "exponential") return std::make_shared<ExponentialLR>(o, 0.87);
  if (name == "cosine") return std::make_shared<CosineAnnealingLR>(o, 5, 1e-3);
  if (name == "warm_restarts") return std::make_shared<CosineAnnealingWarmRestarts>(o, 2, 2, 1e-4);
  if (name == "lambda") {
    return std::make_shared<LambdaLR>(o, [](std::int64_t epoch) { return std::pow(0.93, epoch); });
  }
  if (name == "one_cycle") {
    return std::make_shared<OneCycleLR>(o, OneCycleLROptions{.max_lr = {0.3, 0.07}, .total_steps = kEpochs});
  }
  if (name == "one_cycle_linear") {
    return std::make_shared<OneCycleLR>(o, OneCycleLROptions{.max_lr = 0.3,
                                                             .epochs = 2,
                                                             .steps_per_epoch = 7,
                                                             .pct_start = 0.35,
                                                             .anneal_strategy = "linear",
                                                             .three_phase = true});
  }
  if (name == "plateau") {
    return std::make_shared<ReduceLROnPlateau>(o,
                                               ReduceLROnPlateauOptions{.factor = 0.3, .patience = 1, .cooldown = 2});
  }
  if (name == "plateau_max") {
    return std::make_shared<ReduceLROnPlateau>(
        o, ReduceLROnPlateauOptions{
               .mode = "max", .patience = 0, .threshold = 0.01, .threshold_mode = "abs", .min_lr = {1e-2, 1e-3}});
  }
  return make_sequence(name, o);
}

template <class T, class Options>
std::unique_ptr<Optimizer> two_groups(Options options) {
  Options other = options;
  options.lr(0.11);
  other.lr(0.023);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector{torch::zeros({2}, torch::requires_grad())}, std::make_unique<Options>(options));
  groups.emplace_back(std::vector{torch::zeros({3}, torch::requires_grad())}, std::make_unique<Options>(other));
  return std::make_unique<T>(groups, options);
}

std::unique_ptr<Optimizer> scheduled_optimizer(const std::string& name) {
  using namespace torch::optim;
  if (name.starts_with("adamw")) return two_groups<AdamW>(AdamWOptions());
  return two_groups<SGD>(SGDOptions(0.11).momentum(0.9));
}

double metric(int epoch) { return epoch < 4 ? 1.0 / (1 + epoch) : 0.25 + 0.01 * std::sin(epoch); }

// Learning rate and momentum of each group.
Value rates(const Optimizer& optimizer) {
  List result;
  const Dict state = state_dict(optimizer);
  for (const Value& group : state.at("param_groups").as<List>()) {
    result.push_back(List{group.at("lr"), group.contains("betas") ? group.at("betas")[0] : group.at("momentum")});
  }
  return result;
}

// Python writes whole numbers that the user gave as ints.
Value with_floats(const Value& value) {
  if (value.is<std::int64_t>()) return value.as<double>();
  if (value.is<List>()) {
    List items;
    for (const Value& item : value.as<List>()) items.push_back(with_floats(item));
    return items;
  }
  if (!value.is<Dict>()) return value;
  Dict items;
  for (const auto& [key, item] : value.as<Dict>()) items[key] = with_floats(item);
  return items;
}

// The states of a run from the start, whose rates and states must be Python's.
Dict run_schedule(const std::string& name, const Dict& python) {
  const auto optimizer = scheduled_optimizer(name);
  const Scheduler scheduler = make_scheduler(name.substr(name.find('_') + 1), *optimizer);
  List states, optimizer_states;
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    INFO(name << ", epoch " << epoch);
    CHECK(rates(*optimizer) == python.at("rates")[epoch]);
    CHECK(with_floats(scheduler->state_dict()) == with_floats(python.at("states")[epoch]));
    states.push_back(scheduler->state_dict());
    Dict optimizer_state = state_dict(*optimizer);
    scheduler->add_group_keys(optimizer_state);
    optimizer_states.push_back(optimizer_state);
    scheduler->step(metric(epoch));
  }
  CHECK(rates(*optimizer) == python.at("rates")[kEpochs]);
  return {{"states", states}, {"optimizer_states", optimizer_states}};
}

// Takes over from Python at `first_epoch`.
void resume_schedule(const std::string& name, const Dict& python, int first_epoch) {
  const auto optimizer = scheduled_optimizer(name);
  const Scheduler scheduler = make_scheduler(name.substr(name.find('_') + 1), *optimizer);
  scheduler->load_state_dict(python.at("states")[first_epoch].as<Dict>());
  load_state_dict(*optimizer, python.at("optimizer_states")[first_epoch].as<Dict>());
  for (int epoch = first_epoch; epoch < kEpochs; ++epoch) {
    INFO(name << " from epoch " << first_epoch << ", epoch " << epoch);
    CHECK(rates(*optimizer) == python.at("rates")[epoch]);
    scheduler->step(metric(epoch));
  }
  CHECK(rates(*optimizer) == python.at("rates")[kEpochs]);
}

// --------------------------------------------------------------------------------------------------------- modules

std::map<std::string, std::shared_ptr<torch::nn::Module>> modules() {
  using namespace torch::nn;
  return {
      {"Linear", Linear(3, 2).ptr()},
      {"Sequential",
       Sequential(Conv2d(Conv2dOptions(1, 2, 3)), BatchNorm2d(2), ReLU(), Linear(LinearOptions(4, 1).bias(false)))
           .ptr()},
      {"BatchNorm1d", BatchNorm1d(3).ptr()},
      {"InstanceNorm1d", InstanceNorm1d(InstanceNorm1dOptions(3).affine(true).track_running_stats(true)).ptr()},
      {"LayerNorm", LayerNorm(LayerNormOptions({3})).ptr()},
      {"GroupNorm", GroupNorm(GroupNormOptions(2, 4)).ptr()},
      {"Embedding", Embedding(4, 3).ptr()},
      {"PReLU", PReLU().ptr()},
      {"Bilinear", Bilinear(BilinearOptions(2, 3, 4)).ptr()},
      {"ConvTranspose2d", ConvTranspose2d(ConvTranspose2dOptions(2, 3, 2)).ptr()},
      {"LSTM", LSTM(LSTMOptions(2, 3).num_layers(2).bidirectional(true)).ptr()},
      {"LSTM with projections", LSTM(LSTMOptions(4, 3).proj_size(2)).ptr()},
      {"GRU", GRU(2, 3).ptr()},
      {"GRUCell", GRUCell(2, 3).ptr()},
      {"MultiheadAttention", MultiheadAttention(MultiheadAttentionOptions(4, 2).add_bias_kv(true)).ptr()},
      {"MultiheadAttention with other sizes",
       MultiheadAttention(MultiheadAttentionOptions(4, 2).kdim(3).vdim(5)).ptr()},
      {"TransformerEncoder",
       TransformerEncoder(TransformerEncoderLayer(TransformerEncoderLayerOptions(4, 2).dim_feedforward(8)), 2).ptr()},
      {"Transformer", Transformer(TransformerOptions(4, 2, 1, 1).dim_feedforward(8)).ptr()}};
}

std::string keys(const Dict& dict) {
  std::string result;
  for (const auto& [key, value] : dict) result += key.as<std::string>() + " ";
  return result;
}

}  // namespace

TEST_CASE("Python's optimizers, schedulers and generators go on in C++, and C++'s in Python", "[interop][state]") {
  if (!test::has_python()) return;
  const Twin twin;

  for (const std::string& name : twin.cases("optimizer_")) {
    INFO(name);
    const Dict python = twin.read("optimizer_" + name + ".pt");
    std::vector<Tensor> resumed = params_of(python.at("params"));
    const auto optimizer = make_optimizer(python, resumed);
    load_state_dict(*optimizer, python.at("state").as<Dict>());
    train(resumed, *optimizer, kBefore, kAfter);
    CHECK(largest_difference(resumed, python.at("expected")) < 1e-6);

    std::vector<Tensor> params = params_of(python.at("initial"));
    const auto from_start = make_optimizer(python, params);
    load_state_dict(*from_start, python.at("initial_state").as<Dict>());
    train(params, *from_start, 0, kBefore);
    write(twin, "optimizer_" + name, {{"params", detached(params)}, {"state", state_dict(*from_start)}});
  }
  for (const std::string& name : twin.cases("scheduler_")) {
    const Dict python = twin.read("scheduler_" + name + ".pt");
    write(twin, "scheduler_" + name, run_schedule(name, python));
    for (int epoch = 0; epoch < kEpochs; ++epoch) resume_schedule(name, python, epoch);
  }

  const Dict python_rng = twin.read("rng.pt");
  RngState rng;
  rng.load_state_dict({{"cpu", python_rng.at("state")}});
  CHECK(torch::equal(torch::randn({10}, torch::kDouble), python_rng.at("next").as<Tensor>()));
  const Dict rng_state = rng.state_dict();
  write(twin, "rng", {{"state", rng_state}, {"next", torch::randn({10}, torch::kDouble)}});

  twin.run("check");
}

TEST_CASE("Modules have Python's names, order, shapes and dtypes", "[interop][state]") {
  if (!test::has_python()) return;
  const Twin twin;
  const Dict python = twin.read("modules.pt");
  const auto ours = modules();
  CHECK(python.size() == ours.size());
  for (const auto& [name, module] : ours) {
    INFO(name);
    const Dict& state = python.at(name).as<Dict>();
    CHECK(keys(state_dict(*module)) == keys(state));
    CHECK_NOTHROW(load_state_dict(*module, state));
    CHECK(Value(state_dict(*module)) == Value(state));
  }
}
