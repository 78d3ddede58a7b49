// SPDX-License-Identifier: Apache-2.0
// The parameters and buffers that a module has itself, where it keeps them. LibTorch hands out copies of these tables
// alone, with every name and an index of them; to make one takes longer than to read its tensors from a file.
#pragma once

#include <torch/nn/module.h>

#include <string>

namespace ckptio::detail {

using ModuleTensors = torch::OrderedDict<std::string, at::Tensor>;

inline const ModuleTensors& parameters_of(const torch::nn::Module& module) {
  struct Opened : torch::nn::Module {
    static const ModuleTensors& parameters(const torch::nn::Module& module) { return module.*(&Opened::parameters_); }
  };
  return Opened::parameters(module);
}

const ModuleTensors& buffers_of(const torch::nn::Module& module);

// They are private, and have had this name since LibTorch 1.0. What is named in an explicit instantiation may be.
template <auto kMember>
struct BuffersOf {
  friend const ModuleTensors& buffers_of(const torch::nn::Module& module) { return module.*kMember; }
};
template struct BuffersOf<&torch::nn::Module::buffers_>;

}  // namespace ckptio::detail
