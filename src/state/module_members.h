// SPDX-License-Identifier: Apache-2.0
// The parameters and buffers that a module has itself, where it keeps them. LibTorch hands out copies of these tables
// alone, with every name and an index of them; to make one takes longer than to read its tensors from a file.
#pragma once

#include <torch/nn/module.h>

#include <string>

namespace ckptio::detail {

using ModuleTensors = torch::OrderedDict<std::string, at::Tensor>;

const ModuleTensors& parameters_of(const torch::nn::Module& module);
const ModuleTensors& buffers_of(const torch::nn::Module& module);

}  // namespace ckptio::detail
