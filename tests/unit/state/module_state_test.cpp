// SPDX-License-Identifier: Apache-2.0
#include <torch/torch.h>

#include "ckptio/state.h"
#include "state_helpers.h"
#include "support/catch.h"

using namespace ckptio;
using state_test::clone;
using state_test::Net;

namespace {

std::vector<std::string> keys(const Dict& dict) {
  std::vector<std::string> result;
  for (const auto& [key, value] : dict) result.push_back(key.as<std::string>());
  return result;
}

template <class Action>
std::string mismatch(Action action) {
  try {
    action();
  } catch (const MismatchError& error) {
    return error.what();
  }
  return "no MismatchError";
}

// Its own parameter and buffer beside children, one of them registered twice, and an undefined parameter.
struct MixedImpl : torch::nn::Module {
  MixedImpl() {
    shared = torch::nn::Linear(2, 2);
    register_module("head", shared);
    own = register_parameter("own", torch::ones({2}));
    register_parameter("absent", torch::Tensor(), false);
    counter = register_buffer("counter", torch::zeros({}, torch::kLong));
    register_module("tail", shared);
    register_parameter("tied", own);
  }
  torch::nn::Linear shared{nullptr};
  torch::Tensor own, counter;
};
TORCH_MODULE(Mixed);

}  // namespace

TEST_CASE("A module's state_dict has Python's order, shared tensors under each name and no undefined ones",
          "[state][module]") {
  Mixed module;
  const Dict state = state_dict(*module);
  CHECK(keys(state) ==
        std::vector<std::string>{"own", "tied", "counter", "head.weight", "head.bias", "tail.weight", "tail.bias"});
  CHECK(state.at("own").as<at::Tensor>().data_ptr() == state.at("tied").as<at::Tensor>().data_ptr());
}

TEST_CASE("A state_dict's tensors are the live ones, without their gradient history", "[state][module]") {
  Net net;
  const at::Tensor saved = state_dict(*net).at("first.weight").as<at::Tensor>();
  CHECK(saved.data_ptr() == net->first->weight.data_ptr());
  CHECK_FALSE(saved.requires_grad());
  CHECK(net->first->weight.requires_grad());
}

TEST_CASE("Modules of LibTorch have the names that Python gives them", "[state][module]") {
  namespace nn = torch::nn;
  CHECK(keys(state_dict(*nn::BatchNorm2d(3))) ==
        std::vector<std::string>{"weight", "bias", "running_mean", "running_var", "num_batches_tracked"});
  CHECK(keys(state_dict(*nn::Sequential(nn::Linear(2, 2), nn::ReLU(), nn::Linear(2, 1)))) ==
        std::vector<std::string>{"0.weight", "0.bias", "2.weight", "2.bias"});
  CHECK(keys(state_dict(*nn::LSTM(nn::LSTMOptions(2, 3).bidirectional(true)))) ==
        std::vector<std::string>{"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse",
                                 "weight_hh_l0_reverse", "bias_ih_l0_reverse", "bias_hh_l0_reverse"});
  CHECK(keys(state_dict(*nn::MultiheadAttention(nn::MultiheadAttentionOptions(4, 2)))) ==
        std::vector<std::string>{"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"});
}

TEST_CASE("Loading a module copies into the tensors that exist", "[state][module]") {
  Net source, target;
  {
    const torch::NoGradGuard no_grad;
    source->first->weight.fill_(7);
  }
  const void* memory = target->first->weight.data_ptr();
  const at::Tensor alias = target->first->weight.detach();
  const IncompatibleKeys keys = load_state_dict(*target, state_dict(*source));
  CHECK(keys.missing_keys.empty());
  CHECK(keys.unexpected_keys.empty());
  CHECK(target->first->weight.data_ptr() == memory);
  CHECK(alias.eq(7).all().item<bool>());
  CHECK(target->first->weight.requires_grad());
  CHECK(Value(state_dict(*target)) == Value(state_dict(*source)));
  CHECK(target->first->weight.data_ptr() != source->first->weight.data_ptr());
}

TEST_CASE("Every missing, unexpected and mismatched entry is in one error, and nothing is changed", "[state][module]") {
  Net net;
  const Dict before = clone(state_dict(*net));
  Dict state = clone(state_dict(*net));
  for (auto& [key, value] : state) value = value.as<at::Tensor>() + 1;
  state.erase("first.bias");
  state.erase("unused");
  state["extra.weight"] = torch::zeros({2, 3});
  state[5] = 1;
  state["first.weight"] = torch::zeros({4, 6});
  state["second.weight"] = torch::zeros({2, 6}, torch::kDouble);
  state["second.bias"] = List{1, 2};
  const std::string error = mismatch([&] { load_state_dict(*net, state); });
  INFO(error);
  for (const char* part :
       {"load_state_dict of", "nothing was changed", "missing (2):", "first.bias: float32 [6]", "unused: float32 [3]",
        "unexpected (2):", "extra.weight: float32 [2, 3]", "5: int",
        "mismatched (3):", "first.weight: shape [6, 4] expected, found [4, 6]",
        "second.weight: dtype float32 expected, found float64", "second.bias: Tensor expected, found list"}) {
    INFO(part);
    CHECK(error.find(part) != std::string::npos);
  }
  CHECK(Value(state_dict(*net)) == Value(before));
}

TEST_CASE("A list of a thousand mismatches is not cut short", "[state][module]") {
  Net net;
  Dict state = state_dict(*net);
  for (int i = 0; i < 1000; ++i) state["extra" + std::to_string(i)] = torch::zeros({1});
  const std::string error = mismatch([&] { load_state_dict(*net, state); });
  CHECK(error.find("unexpected (1000)") != std::string::npos);
  CHECK(error.find("extra999") != std::string::npos);
}

TEST_CASE("Not strict, names of one side are returned and the rest is loaded; shapes must fit all the same",
          "[state][module]") {
  Net net;
  Dict state = clone(state_dict(*net));
  state["first.weight"] = torch::full({6, 4}, 3.0);
  state.erase("unused");
  state["more"] = torch::ones({1});
  const IncompatibleKeys keys = load_state_dict(*net, state, /*strict=*/false);
  CHECK(keys.missing_keys == std::vector<std::string>{"unused"});
  CHECK(keys.unexpected_keys == std::vector<std::string>{"more"});
  CHECK(net->first->weight.eq(3).all().item<bool>());
  state["first.weight"] = torch::full({6, 5}, 4.0);
  CHECK_THROWS_AS(load_state_dict(*net, state, false), MismatchError);
  CHECK(net->first->weight.eq(3).all().item<bool>());
}

TEST_CASE("Buffers and shared modules are restored, from non-contiguous and aliasing tensors too", "[state][module]") {
  Mixed module;
  Dict state = clone(state_dict(*module));
  state["counter"] = torch::tensor(41, torch::kLong);
  const at::Tensor weight = torch::tensor({{1.0f, 2.0f}, {3.0f, 4.0f}});
  state["head.weight"] = weight.t();
  state["tail.weight"] = weight.t();
  load_state_dict(*module, state);
  CHECK(module->counter.item<int64_t>() == 41);
  CHECK(torch::equal(module->shared->weight, weight.t()));
}

TEST_CASE("A module can load its own tensors under exchanged names", "[state][module]") {
  torch::nn::Sequential net(torch::nn::Linear(2, 2), torch::nn::Linear(2, 2));
  const Dict live = state_dict(*net);
  const Dict before = clone(live);
  Dict swapped = live;
  swapped["0.weight"] = live.at("1.weight");
  swapped["1.weight"] = live.at("0.weight");
  load_state_dict(*net, swapped);
  CHECK(state_dict(*net).at("0.weight") == before.at("1.weight"));
  CHECK(state_dict(*net).at("1.weight") == before.at("0.weight"));
}

TEST_CASE("Tensors that hold no data, or whose memory can't be written, are refused before anything changes",
          "[state][module]") {
  torch::nn::Linear layer(2, 2);
  const Dict before = clone(state_dict(*layer));
  Dict state = clone(state_dict(*layer));
  state["weight"] = torch::ones({2, 2});
  state["bias"] = torch::zeros({2}, torch::kMeta);
  CHECK(mismatch([&] { load_state_dict(*layer, state); }).find("bias: found on the meta device") != std::string::npos);
  state["bias"] = at::Tensor();
  CHECK(mismatch([&] { load_state_dict(*layer, state); }).find("undefined") != std::string::npos);
  CHECK(Value(state_dict(*layer)) == Value(before));
  layer->bias = layer->register_parameter("expanded", torch::zeros({1}).expand({2}), false);
  state = clone(state_dict(*layer));
  CHECK(mismatch([&] {
          load_state_dict(*layer, state);
        }).find("expanded: the module's has elements that share memory") != std::string::npos);
}
