// SPDX-License-Identifier: Apache-2.0
// What the tests of state share: small models, steps on fixed data, and copies to compare with.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ckptio/state.h"

namespace state_test {

// A deep copy: its tensors are not the live ones.
inline ckptio::Value clone(const ckptio::Value& value) {
  if (value.is<at::Tensor>()) return value.as<at::Tensor>().clone();
  if (value.is<ckptio::List>()) {
    ckptio::List copy;
    for (const auto& item : value.as<ckptio::List>()) copy.push_back(clone(item));
    return copy;
  }
  if (!value.is<ckptio::Dict>()) return value;
  ckptio::Dict copy;
  for (const auto& [key, item] : value.as<ckptio::Dict>()) copy[key] = clone(item);
  return copy;
}

inline ckptio::Dict clone(const ckptio::Dict& dict) { return clone(ckptio::Value(dict)).as<ckptio::Dict>(); }

// Two layers whose weights depend on nothing, and a parameter that never gets a gradient.
struct NetImpl : torch::nn::Module {
  NetImpl() {
    const torch::NoGradGuard no_grad;
    double value = 0.1;
    for (auto& parameter : parameters()) {
      parameter.copy_(torch::linspace(-value, value, parameter.numel()).view(parameter.sizes()).sin());
      value += 0.3;
    }
  }
  torch::Tensor forward(const torch::Tensor& x) { return second->forward(torch::tanh(first->forward(x))); }

  torch::nn::Linear first = register_module("first", torch::nn::Linear(4, 6));
  torch::nn::Linear second = register_module("second", torch::nn::Linear(6, 2));
  torch::Tensor unused = register_parameter("unused", torch::ones({3}));
};
TORCH_MODULE(Net);

// Trains on data that depends on the step alone.
inline void train(Net& net, torch::optim::Optimizer& optimizer, int first_step, int n_steps) {
  for (int step = first_step; step < first_step + n_steps; ++step) {
    const torch::Tensor x = torch::linspace(step, step + 1.0, 32).view({8, 4}).cos();
    const torch::Tensor y = x.slice(1, 0, 2) * 0.5;
    optimizer.step([&] {
      optimizer.zero_grad();
      torch::Tensor loss = (net->forward(x) - y).pow(2).mean();
      loss.backward();
      return loss;
    });
  }
}

struct OptimizerCase {
  std::string name;
  std::function<std::unique_ptr<torch::optim::Optimizer>(Net&)> make;
};

template <class T, class Options>
OptimizerCase one_group(std::string name, Options options) {
  return {std::move(name), [options](Net& net) { return std::make_unique<T>(net->parameters(), options); }};
}

// The second layer learns with other options.
template <class T, class Options>
OptimizerCase two_groups(std::string name, Options options, Options others) {
  return {std::move(name), [options, others](Net& net) {
            std::vector<torch::Tensor> rest = net->first->parameters();
            rest.push_back(net->unused);
            std::vector<torch::optim::OptimizerParamGroup> groups;
            groups.emplace_back(net->second->parameters(), std::make_unique<Options>(others));
            groups.emplace_back(rest, std::make_unique<Options>(options));
            return std::make_unique<T>(groups, options);
          }};
}

inline std::vector<OptimizerCase> optimizer_cases() {
  using namespace torch::optim;
  return {one_group<SGD>("SGD", SGDOptions(0.1)),
          one_group<SGD>("SGD with momentum", SGDOptions(0.1).momentum(0.9).dampening(0.1).weight_decay(1e-3)),
          one_group<SGD>("SGD with Nesterov's momentum", SGDOptions(0.1).momentum(0.9).nesterov(true)),
          two_groups<SGD>("SGD with two groups", SGDOptions(0.1).momentum(0.9), SGDOptions(0.01).momentum(0.5)),
          one_group<Adam>("Adam", AdamOptions(1e-2).betas({0.8, 0.99}).weight_decay(1e-3)),
          one_group<Adam>("Adam with amsgrad", AdamOptions(1e-2).amsgrad(true)),
          two_groups<Adam>("Adam with two groups", AdamOptions(1e-2), AdamOptions(1e-3).eps(1e-6)),
          one_group<AdamW>("AdamW", AdamWOptions(1e-2).weight_decay(0.1)),
          one_group<AdamW>("AdamW with amsgrad", AdamWOptions(1e-2).amsgrad(true)),
          one_group<RMSprop>("RMSprop", RMSpropOptions(1e-2)),
          one_group<RMSprop>("RMSprop centered with momentum", RMSpropOptions(1e-2).momentum(0.9).centered(true)),
          one_group<Adagrad>("Adagrad", AdagradOptions(1e-1).lr_decay(0.1)),
          one_group<LBFGS>("LBFGS", LBFGSOptions(0.1).max_iter(3).history_size(4)),
          one_group<LBFGS>("LBFGS with line search", LBFGSOptions(1).max_iter(4).line_search_fn("strong_wolfe"))};
}

}  // namespace state_test
