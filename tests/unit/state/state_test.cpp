// SPDX-License-Identifier: Apache-2.0
#include "ckptio/state.h"

#include <torch/torch.h>

#include <stdexcept>

#include "ckptio/lr_scheduler.h"
#include "ckptio/rng_state.h"
#include "state_helpers.h"
#include "support/catch.h"

using namespace ckptio;
using state_test::clone;
using state_test::Net;
using state_test::train;

namespace {

// A user's type, which checks by loading.
struct Counter {
  std::int64_t count = 0;
  std::exception_ptr refusal;
  int n_loads = 0;
  Dict state_dict() const { return {{"count", count}}; }
  void load_state_dict(const Dict& state) {
    ++n_loads;
    if (refusal) std::rethrow_exception(refusal);
    count = state.at("count").as<std::int64_t>();
  }
};

std::string load_error(State& state, const Dict& checkpoint, bool strict = true) {
  try {
    state.load_state_dict(checkpoint, strict);
  } catch (const MismatchError& error) {
    return error.what();
  }
  return "no MismatchError";
}

// A run's objects.
struct Run {
  Net net;
  torch::optim::SGD first{net->first->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9)};
  torch::optim::Adam second{net->second->parameters()};
  std::vector<torch::optim::Optimizer*> optimizers{&first, &second};
  std::vector<std::shared_ptr<LRScheduler>> schedulers{std::make_shared<StepLR>(first, 2),
                                                       std::make_shared<ReduceLROnPlateau>(second)};
  Counter counter;
  RngState rng;

  State state() {
    State state;
    state.add("state_dict", *net).add("optimizer_states", optimizers).add("lr_schedulers", schedulers);
    state.add("counter", counter).add("rng_state", rng);
    return state;
  }
  void advance() {
    train(net, first, 0, 2);
    train(net, second, 0, 2);
    for (auto& scheduler : schedulers) scheduler->step(0.5);
    ++counter.count;
    torch::rand({1});
  }
};

}  // namespace

TEST_CASE("Objects are named by reference, by any pointer and by a module holder alike", "[state]") {
  torch::nn::Linear holder(3, 2);
  const auto shared = std::make_shared<torch::optim::SGD>(holder->parameters(), 0.1);
  State state;
  state.add("reference", *holder).add("holder", holder).add("shared", shared);
  const Dict saved = state.state_dict();
  CHECK(saved.at("reference") == saved.at("holder"));
  CHECK(saved.at("shared") == Value(state_dict(*shared)));
  CHECK(State(holder).state_dict() == state_dict(holder));
  CHECK(load_state_dict(holder, state_dict(*holder)).missing_keys.empty());
  CHECK_THROWS_AS(State(torch::nn::Linear(nullptr)), ValueError);
  CHECK_THROWS_AS(state.add("null", std::shared_ptr<torch::optim::SGD>()), ValueError);
}

TEST_CASE("A State saves and restores modules, optimizers, schedulers, generators and types of the user's as one",
          "[state]") {
  Run run;
  run.advance();
  State state = run.state();
  CHECK(state.keys() ==
        std::vector<std::string>{"state_dict", "optimizer_states", "lr_schedulers", "counter", "rng_state"});
  Dict checkpoint = clone(state.state_dict());
  checkpoint["epoch"] = 3;
  const Dict saved = clone(state.state_dict());
  run.advance();
  CHECK(Value(state.state_dict()) != Value(saved));
  CHECK(Value(state.load_state_dict(checkpoint)) == Value(Dict{{"epoch", 3}}));
  CHECK(Value(state.state_dict()) == Value(saved));
}

TEST_CASE("A State restores into the objects that exist", "[state]") {
  Run run;
  run.advance();
  State state = run.state();
  const Dict checkpoint = clone(state.state_dict());
  const void* memory = run.net->first->weight.data_ptr();
  run.advance();
  state.load_state_dict(checkpoint);
  CHECK(run.net->first->weight.data_ptr() == memory);
  run.advance();  // the optimizers still move the module's parameters
  CHECK(Value(state.state_dict().at("state_dict")) != checkpoint.at("state_dict"));
}

TEST_CASE("One error names what does not fit in any object, and no object is changed", "[state]") {
  Run run;
  run.advance();
  State state = run.state();
  Dict checkpoint = clone(state.state_dict());
  run.advance();
  const Dict before = clone(state.state_dict());
  checkpoint.at("state_dict")["first.weight"] = torch::zeros({1});
  checkpoint.at("state_dict").mutable_as<Dict>().erase("second.bias");
  checkpoint.at("optimizer_states")[1].at("param_groups")[0]["lr"] = "fast";
  checkpoint.at("lr_schedulers")[0]["gamma"] = List{};
  checkpoint.at("rng_state")["cpu"] = 1;
  checkpoint.erase("counter");
  const std::string error = load_error(state, checkpoint);
  INFO(error);
  for (const char* part :
       {"missing (2)", "state_dict.second.bias", "counter", "mismatched (4)",
        "state_dict.first.weight: shape [6, 4] expected, found [1]",
        "optimizer_states[1].param_groups[0]['lr']: float expected, found str",
        "lr_schedulers[0].gamma: float expected, found list", "rng_state.cpu: uint8 [5056] expected, found int"}) {
    INFO(part);
    CHECK(error.find(part) != std::string::npos);
  }
  CHECK(Value(state.state_dict()) == Value(before));
  CHECK(run.counter.n_loads == 0);
}

TEST_CASE("Lists must be of the same length and values of the right kind", "[state]") {
  Run run;
  State state = run.state();
  Dict checkpoint = state.state_dict();
  checkpoint["optimizer_states"] = List{state_dict(run.first)};
  checkpoint["lr_schedulers"] = 5;
  checkpoint["state_dict"] = List{};
  const std::string error = load_error(state, checkpoint);
  INFO(error);
  CHECK(error.find("optimizer_states: 2 objects to restore, found 1 state") != std::string::npos);
  CHECK(error.find("lr_schedulers: list expected, found int") != std::string::npos);
  CHECK(error.find("state_dict: dict expected, found list") != std::string::npos);
}

TEST_CASE("Not strict, names and tensors of one side are skipped", "[state]") {
  Run run;
  State state = run.state();
  Dict checkpoint = clone(state.state_dict());
  checkpoint.erase("counter");
  checkpoint.at("state_dict").mutable_as<Dict>().erase("unused");
  checkpoint.at("state_dict")["more"] = torch::ones({1});
  checkpoint.at("state_dict")["first.bias"] = torch::full({6}, 9.0);
  CHECK_THROWS_AS(state.load_state_dict(checkpoint), MismatchError);
  state.load_state_dict(checkpoint, /*strict=*/false);
  CHECK(run.net->first->bias.eq(9).all().item<bool>());
}

TEST_CASE("When an object of the user's refuses its state, all others are as they were", "[state]") {
  torch::nn::Linear layer(2, 2);
  Counter one, two, three;
  State state;
  state.add("model", *layer).add("one", one).add("two", two).add("three", three);
  const Dict before = clone(state.state_dict());
  const Dict checkpoint{{"model", Dict{{"weight", torch::ones({2, 2})}, {"bias", torch::ones({2})}}},
                        {"one", Dict{{"count", 1}}},
                        {"two", Dict{{"count", 2}}},
                        {"three", Dict{{"count", 3}}}};
  two.refusal = std::make_exception_ptr(MismatchError("not mine"));
  CHECK(load_error(state, checkpoint) == "two: not mine");
  CHECK(Value(state.state_dict()) == Value(before));
  CHECK(one.n_loads == 2);
  CHECK(three.n_loads == 0);

  two.refusal = std::make_exception_ptr(std::runtime_error("broken"));
  CHECK_THROWS_AS(state.load_state_dict(checkpoint), std::runtime_error);
  CHECK(Value(state.state_dict()) == Value(before));
}

TEST_CASE("A State of one object has its state_dict for a checkpoint", "[state]") {
  Net net;
  State state(*net);
  CHECK(state.keys().empty());
  CHECK(Value(state.state_dict()) == Value(state_dict(*net)));
  Dict checkpoint = clone(state_dict(*net));
  checkpoint["unused"] = torch::zeros({3});
  CHECK(state.load_state_dict(checkpoint).empty());
  CHECK(net->unused.eq(0).all().item<bool>());
  checkpoint.erase("unused");
  CHECK(load_error(state, checkpoint).find("unused: float32 [3]") != std::string::npos);
  Counter counter;
  CHECK_THROWS_AS(state.add("counter", counter), ValueError);
  State of_counter(counter);
  of_counter.load_state_dict({{"count", 12}});
  CHECK(counter.count == 12);
}

TEST_CASE("A State's names are unique", "[state]") {
  Counter counter;
  State state;
  state.add("counter", counter);
  CHECK(state.contains("counter"));
  CHECK_THROWS_AS(state.add("counter", counter), ValueError);
}

TEST_CASE("Lists of objects are given by pointers of any kind; a module that is a list is one object", "[state]") {
  auto shared = std::make_shared<torch::nn::LinearImpl>(1, 1);
  std::vector<std::unique_ptr<torch::optim::Optimizer>> owned;
  owned.push_back(std::make_unique<torch::optim::SGD>(shared->parameters(), 0.1));
  torch::nn::ModuleList modules(torch::nn::Linear(1, 1), torch::nn::Linear(1, 1));
  State state;
  state.add("modules", std::vector{shared, shared}).add("optimizers", owned).add("list", *modules);
  const Dict saved = state.state_dict();
  CHECK(saved.at("modules").size() == 2);
  CHECK(saved.at("optimizers").size() == 1);
  CHECK(saved.at("list").contains("1.bias"));
}
