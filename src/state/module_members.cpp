// SPDX-License-Identifier: Apache-2.0
#include "state/module_members.h"

namespace ckptio::detail {

namespace {

// Parameters are there for subclasses.
struct Subclass : torch::nn::Module {
  static constexpr auto kParameters = &Subclass::parameters_;
};

// Buffers are private, under this name since LibTorch 1.0. What an explicit instantiation names may be.
const ModuleTensors& private_buffers_of(const torch::nn::Module& module);
template <auto kBuffers>
struct PrivateBuffers {
  friend const ModuleTensors& private_buffers_of(const torch::nn::Module& module) { return module.*kBuffers; }
};
template struct PrivateBuffers<&torch::nn::Module::buffers_>;

}  // namespace

const ModuleTensors& parameters_of(const torch::nn::Module& module) { return module.*Subclass::kParameters; }

const ModuleTensors& buffers_of(const torch::nn::Module& module) { return private_buffers_of(module); }

}  // namespace ckptio::detail
