// SPDX-License-Identifier: Apache-2.0
// The states that are saved and loaded.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "raw_io.h"

namespace ckptio::bench {

// float32 tensors, as the parameters of a module, so that they can be restored in place.
class Workload {
 public:
  // `name`: "big" (64 tensors of 16 MiB), "adam" (GPT-2 small's parameters and Adam's two moments: 444 tensors, 1.5
  // GB), "small" (20,000 tensors of 1 KiB), or COUNTxBYTES. `scale` times as many tensors, for "adam" as many layers;
  // at least one. ckptio::ValueError for another name.
  Workload(const std::string& name, double scale);

  const std::string& name() const { return name_; }
  torch::nn::Module& module() const { return *module_; }
  // Where the tensors' bytes are, in the order of the names.
  const std::vector<Bytes>& bytes() const { return bytes_; }
  std::uint64_t n_bytes() const { return n_bytes_; }
  // Thousands of calls, rather than bytes, are what such tensors cost.
  bool is_small() const { return n_bytes_ / bytes_.size() < (64 << 10); }

 private:
  void add(const std::string& name, std::vector<std::int64_t> shape);
  void add_gpt2(int n_layers, std::int64_t n_words);

  std::string name_;
  std::shared_ptr<torch::nn::Module> module_;
  std::vector<Bytes> bytes_;
  std::uint64_t n_bytes_ = 0;
};

}  // namespace ckptio::bench
