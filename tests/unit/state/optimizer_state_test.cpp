// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include "ckptio/state.h"
#include "state_helpers.h"
#include "support/catch.h"

using namespace ckptio;
using state_test::clone;
using state_test::Net;
using state_test::optimizer_cases;
using state_test::train;

namespace {

std::string load_error(torch::optim::Optimizer& optimizer, const Dict& state) {
  try {
    load_state_dict(optimizer, state);
  } catch (const MismatchError& error) {
    return error.what();
  }
  return "no MismatchError";
}

void check_contains(const std::string& text, std::initializer_list<const char*> parts) {
  INFO(text);
  for (const char* part : parts) {
    INFO(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

Value& group(Dict& state, std::int64_t i) { return state.at("param_groups")[i]; }

}  // namespace

TEST_CASE("Every optimizer goes on bit for bit after its state is loaded into a fresh one", "[state][optimizer]") {
  for (const auto& test : optimizer_cases()) {
    for (const int n_before : {0, 1, 5}) {
      INFO(test.name << " after " << n_before << " steps");
      Net uninterrupted;
      const auto optimizer = test.make(uninterrupted);
      train(uninterrupted, *optimizer, 0, n_before);
      const Dict model_state = clone(state_dict(*uninterrupted));
      const Dict saved = clone(state_dict(*optimizer));
      train(uninterrupted, *optimizer, n_before, 5);

      Net resumed;
      const auto fresh = test.make(resumed);
      train(resumed, *fresh, 100, 2);  // state of its own, to be replaced
      load_state_dict(*resumed, model_state);
      load_state_dict(*fresh, saved);
      CHECK(Value(state_dict(*fresh)) == Value(saved));
      train(resumed, *fresh, n_before, 5);
      CHECK(Value(state_dict(*resumed)) == Value(state_dict(*uninterrupted)));
      CHECK(Value(state_dict(*fresh)) == Value(state_dict(*optimizer)));
    }
  }
}

TEST_CASE("An optimizer's state has Python's keys, in its order, and Python's types", "[state][optimizer]") {
  Net net;
  torch::optim::Adam adam(net->parameters(), torch::optim::AdamOptions(1e-3));
  train(net, adam, 0, 3);
  const Dict state = state_dict(adam);
  std::vector<std::string> names;
  for (const auto& [key, value] : state.at("param_groups")[0].as<Dict>()) names.push_back(key.as<std::string>());
  CHECK(names == std::vector<std::string>{"lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach",
                                          "capturable", "differentiable", "fused", "decoupled_weight_decay", "params"});
  CHECK(state.at("param_groups")[0].at("betas") == Value(Tuple{0.9, 0.999}));
  CHECK(state.at("param_groups")[0].at("foreach").is_null());
  CHECK(state.at("param_groups")[0].at("params") == Value(List{0, 1, 2, 3, 4}));
  const at::Tensor step = state.at("state")[1].at("step").as<at::Tensor>();
  CHECK(step.scalar_type() == torch::kFloat);
  CHECK(step.dim() == 0);
  CHECK(step.item<float>() == 3);
  CHECK_FALSE(state.at("state").contains(0));  // `unused`, the net's own parameter, comes first
}

TEST_CASE("Parameters are numbered over all groups", "[state][optimizer]") {
  Net net;
  const auto optimizer = optimizer_cases()[3].make(net);
  const Dict state = state_dict(*optimizer);
  CHECK(state.at("param_groups")[0].at("params") == Value(List{0, 1}));
  CHECK(state.at("param_groups")[1].at("params") == Value(List{2, 3, 4}));
  CHECK(state.at("param_groups")[0].at("lr") == Value(0.01));
}

TEST_CASE("Steps beyond what float32 counts exactly are saved exactly", "[state][optimizer]") {
  torch::Tensor parameter = torch::ones({2}, torch::requires_grad());
  torch::optim::Adam adam(std::vector<torch::Tensor>{parameter});
  parameter.mutable_grad() = torch::ones({2});
  adam.step();
  auto& state = static_cast<torch::optim::AdamParamState&>(*adam.state().begin()->second);
  state.step((1 << 24) + 1);
  torch::optim::Adam other(std::vector<torch::Tensor>{parameter});
  load_state_dict(other, state_dict(adam));
  CHECK(static_cast<torch::optim::AdamParamState&>(*other.state().begin()->second).step() == (1 << 24) + 1);
}

TEST_CASE("The state of another optimizer is refused by name", "[state][optimizer]") {
  const std::vector<state_test::OptimizerCase> all = optimizer_cases();
  for (const auto& from : all) {
    for (const auto& into : all) {
      const std::string from_name = from.name.substr(0, from.name.find(' '));
      const std::string into_name = into.name.substr(0, into.name.find(' '));
      Net net, other;
      const auto source = from.make(net);
      const auto target = into.make(other);
      if (from_name == into_name || source->param_groups().size() != target->param_groups().size()) continue;
      train(net, *source, 0, 2);
      train(other, *target, 0, 2);
      const Dict before = clone(state_dict(*target));
      check_contains(
          load_error(*target, state_dict(*source)),
          {("param_groups[0]: the state of " + into_name + " expected, found that of " + from_name).c_str()});
      CHECK(Value(state_dict(*target)) == Value(before));
    }
  }
}

TEST_CASE("Everything in an optimizer's state that does not fit is in one error, and nothing is changed",
          "[state][optimizer]") {
  Net net;
  const auto optimizer = optimizer_cases()[6].make(net);  // Adam, two groups
  train(net, *optimizer, 0, 3);
  const Dict before = clone(state_dict(*optimizer));

  Dict groups = clone(before);
  group(groups, 0)["lr"] = "fast";
  group(groups, 1)["maximize"] = true;
  group(groups, 1)["rectify"] = 1;
  group(groups, 1)["betas"] = Tuple{0.9};
  group(groups, 1)["params"] = List{2, 3};
  group(groups, 0).mutable_as<Dict>().erase("eps");
  check_contains(load_error(*optimizer, groups),
                 {"load_state_dict of Adam", "missing (1)", "param_groups[0]['eps']", "unexpected (1)",
                  "param_groups[1]['rectify']", "mismatched (4)", "param_groups[0]['lr']: float expected, found str",
                  "param_groups[1]['maximize']: is True", "param_groups[1]['betas']: tuple of two floats expected",
                  "param_groups[1]['params']: 3 parameters expected, found 2"});

  Dict states = clone(before);
  states.at("state")[0]["exp_avg"] = torch::zeros({6, 2});
  states.at("state")[0]["step"] = 1.5;
  states.at("state")[1]["exp_avg_sq"] = torch::zeros({2}, torch::kDouble);
  states.at("state")[1]["velocity"] = torch::zeros({2});
  states.at("state")[2].mutable_as<Dict>().erase("exp_avg");
  states.at("state")[17] = Dict{{"step", 1}};
  group(states, 0)["lr"] = 123.0;
  check_contains(
      load_error(*optimizer, states),
      {"missing (1)", "state[2]['exp_avg']", "unexpected (2)", "state[1]['velocity']", "state[17]: dict",
       "mismatched (3)", "state[0]['exp_avg']: shape [2, 6] expected, found [6, 2]",
       "state[0]['step']: a count expected", "state[1]['exp_avg_sq']: dtype float32 expected, found float64"});
  CHECK(Value(state_dict(*optimizer)) == Value(before));
}

TEST_CASE("Another number of groups, or no optimizer's state at all, is a mismatch", "[state][optimizer]") {
  Net net;
  const auto two = optimizer_cases()[3].make(net);
  const auto one = optimizer_cases()[1].make(net);
  check_contains(load_error(*two, state_dict(*one)), {"param_groups: 2 groups expected, found 1"});
  check_contains(load_error(*two, Dict{}), {"missing (2)", "param_groups", "state"});
  check_contains(load_error(*two, Dict{{"state", List{}}, {"param_groups", 3}, {"more", 1}}),
                 {"state: dict expected, found list", "param_groups: list expected, found int", "more"});
}

TEST_CASE("State that the loaded options need must be there", "[state][optimizer]") {
  Net net;
  torch::optim::Adam adam(net->parameters());
  train(net, adam, 0, 1);
  Dict amsgrad = clone(state_dict(adam));
  group(amsgrad, 0)["amsgrad"] = true;
  check_contains(load_error(adam, amsgrad), {"missing (4)", "state[1]['max_exp_avg_sq']"});

  torch::optim::RMSprop rmsprop(net->parameters());
  train(net, rmsprop, 0, 1);
  Dict centered = clone(state_dict(rmsprop));
  group(centered, 0)["centered"] = true;
  group(centered, 0)["momentum"] = 0.5;
  check_contains(load_error(rmsprop, centered), {"state[1]['grad_avg']", "state[1]['momentum_buffer']"});

  torch::optim::Adagrad adagrad(net->parameters());
  Dict partial = clone(state_dict(adagrad));
  partial.at("state").mutable_as<Dict>().erase(2);
  check_contains(load_error(adagrad, partial), {"missing (1)", "state[2]"});
}

TEST_CASE("What Python writes beside the mathematics is taken: tensors as lr, speed flags, names, initial_lr, ints",
          "[state][optimizer]") {
  Net net;
  torch::optim::AdamW adamw(net->parameters());
  train(net, adamw, 0, 1);
  auto& options = static_cast<torch::optim::AdamWOptions&>(adamw.param_groups()[0].options());
  Dict state = clone(state_dict(adamw));
  group(state, 0)["lr"] = torch::tensor(0.25, torch::kDouble);
  group(state, 0)["weight_decay"] = 0;
  group(state, 0)["foreach"] = true;
  group(state, 0)["fused"] = true;
  group(state, 0)["capturable"] = true;
  group(state, 0)["differentiable"] = true;
  group(state, 0)["initial_lr"] = 0.5;
  group(state, 0)["param_names"] = List{"a", "b", "c", "d", "e"};
  group(state, 0).mutable_as<Dict>().erase("decoupled_weight_decay");  // as older Pythons wrote it
  load_state_dict(adamw, state);
  CHECK(options.lr() == 0.25);  // the object that was there before
  CHECK(options.weight_decay() == 0);
  CHECK_FALSE(state_dict(adamw).at("param_groups")[0].contains("initial_lr"));
}

TEST_CASE("A momentum that Python has not made yet is none", "[state][optimizer]") {
  Net net;
  torch::optim::SGD sgd(net->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  Dict state = state_dict(sgd);
  state.at("state")[0] = Dict{{"momentum_buffer", nullptr}};
  load_state_dict(sgd, state);
  CHECK(sgd.state().empty());
  train(net, sgd, 0, 1);
}

TEST_CASE("Loaded state is the optimizer's own, not the dictionary's", "[state][optimizer]") {
  Net net;
  torch::optim::SGD sgd(net->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  train(net, sgd, 0, 2);
  const Dict saved = clone(state_dict(sgd));
  const Dict copy = clone(saved);
  load_state_dict(sgd, saved);
  train(net, sgd, 2, 2);
  CHECK(Value(saved) == Value(copy));
}

TEST_CASE("Parameter ids may be anything, names too: their positions count", "[state][optimizer]") {
  Net net;
  torch::optim::SGD sgd(net->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  const at::Tensor buffer = torch::full({6, 4}, 2.0);
  Dict state = state_dict(sgd);
  group(state, 0)["params"] = List{"unused", "first.weight", 70, 71, 72};
  state["state"] = Dict{{"first.weight", Dict{{"momentum_buffer", buffer}}}};
  load_state_dict(sgd, state);
  CHECK(state_dict(sgd).at("state") == Value(Dict{{1, Dict{{"momentum_buffer", buffer}}}}));
}

TEST_CASE("LBFGS's history must be whole", "[state][optimizer]") {
  Net net;
  torch::optim::LBFGS lbfgs(net->parameters(), torch::optim::LBFGSOptions(0.1).max_iter(3).history_size(4));
  train(net, lbfgs, 0, 2);
  const Dict good = clone(state_dict(lbfgs));
  Dict bad = clone(good);
  bad.at("state")[0]["d"] = torch::zeros({3});
  bad.at("state")[0]["ro"] = List{};
  bad.at("state")[0]["al"] = List{nullptr};
  bad.at("state")[0]["n_iter"] = 1.0;
  bad.at("state")[0].mutable_as<Dict>().erase("prev_loss");
  bad.at("state")[1] = Dict{{"func_evals", 1}};
  check_contains(load_error(lbfgs, bad),
                 {"state[0]['d']: shape [47] expected, found [3]", "state[0]['ro']: as many items as old_dirs",
                  "state[0]['al']: history_size (4) items expected, found 1", "state[0]['n_iter']: int expected",
                  "unexpected (1)", "state[1]"});
  Dict without_history = clone(good);
  group(without_history, 0)["history_size"] = 0;
  check_contains(load_error(lbfgs, without_history), {"param_groups[0]['history_size']: 1 or more expected, found 0"});
  CHECK(Value(state_dict(lbfgs)) == Value(good));
}

TEST_CASE("An optimizer of another class is a TypeError", "[state][optimizer]") {
  struct Mine : torch::optim::Optimizer {
    using Optimizer::Optimizer;
    torch::Tensor step(LossClosure) override { return {}; }
  };
  Mine mine(std::vector<torch::Tensor>{torch::ones({1})}, std::make_unique<torch::optim::SGDOptions>(0.1));
  CHECK_THROWS_AS(state_dict(mine), TypeError);
  CHECK_THROWS_AS(load_state_dict(mine, Dict{}), TypeError);
}
