// SPDX-License-Identifier: Apache-2.0
#include "workload.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "ckptio/error.h"

namespace ckptio::bench {

namespace {

struct Module : torch::nn::Module {};

}  // namespace

Workload::Workload(const std::string& name, double scale) : name_(name), module_(std::make_shared<Module>()) {
  unsigned long long n_tensors = 0, n_tensor_bytes = 0;
  char behind = 0;
  if (name == "big") {
    n_tensors = 64, n_tensor_bytes = 16 << 20;
  } else if (name == "small") {
    n_tensors = 20'000, n_tensor_bytes = 1 << 10;
  } else if (name == "adam") {
    const bool is_whole = scale >= 1;
    add_gpt2(std::max(1, static_cast<int>(std::lround(12 * scale))), is_whole ? 50257 : 5000);
    return;
  } else if (std::sscanf(name.c_str(), "%llux%llu%c", &n_tensors, &n_tensor_bytes, &behind) != 2 || n_tensors == 0 ||
             n_tensor_bytes == 0 || n_tensor_bytes % 4 != 0) {
    throw ValueError("--workload " + name + ": expected big, adam, small, or COUNTxBYTES with a multiple of 4");
  }
  n_tensors = std::max(1LL, std::llround(static_cast<double>(n_tensors) * scale));
  for (unsigned long long i = 0; i < n_tensors; ++i) {
    add("t" + std::to_string(i), {static_cast<std::int64_t>(n_tensor_bytes / 4)});
  }
}

void Workload::add(const std::string& name, std::vector<std::int64_t> shape) {
  const at::Tensor tensor = module_->register_parameter(name, torch::rand(shape), /*requires_grad=*/false);
  bytes_.push_back({static_cast<char*>(tensor.mutable_data_ptr()), tensor.nbytes()});
  n_bytes_ += tensor.nbytes();
}

// The shapes of GPT-2 small.
void Workload::add_gpt2(int n_layers, std::int64_t n_words) {
  constexpr std::int64_t d = 768;
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes = {{"wte_weight", {n_words, d}},
                                                                           {"wpe_weight", {1024, d}}};
  for (int i = 0; i < n_layers; ++i) {
    const std::string h = "h_" + std::to_string(i) + "_";
    for (const char* norm : {"ln_1", "ln_2"}) {
      shapes.push_back({h + norm + "_weight", {d}});
      shapes.push_back({h + norm + "_bias", {d}});
    }
    const auto add_linear = [&](const std::string& layer, std::int64_t n_in, std::int64_t n_out) {
      shapes.push_back({h + layer + "_weight", {n_in, n_out}});
      shapes.push_back({h + layer + "_bias", {n_out}});
    };
    add_linear("attn_c_attn", d, 3 * d);
    add_linear("attn_c_proj", d, d);
    add_linear("mlp_c_fc", d, 4 * d);
    add_linear("mlp_c_proj", 4 * d, d);
  }
  shapes.push_back({"ln_f_weight", {d}});
  shapes.push_back({"ln_f_bias", {d}});
  for (const char* of : {"model_", "exp_avg_", "exp_avg_sq_"}) {
    for (const auto& [name, shape] : shapes) add(of + name, shape);
  }
}

}  // namespace ckptio::bench
