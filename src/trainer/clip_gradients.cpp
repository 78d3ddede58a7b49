// SPDX-License-Identifier: Apache-2.0
#include "trainer/clip_gradients.h"

#include <torch/nn/utils/clip_grad.h>

namespace ckptio::detail {

void clip_gradients(const TrainerOptions& options, const OptimizersAndSchedulers& configured) {
  if (!options.gradient_clip_val) return;
  for (const auto& optimizer : configured.optimizers) {
    std::vector<torch::Tensor> parameters;
    for (const auto& group : optimizer->param_groups()) {
      parameters.insert(parameters.end(), group.params().begin(), group.params().end());
    }
    if (options.gradient_clip_algorithm == "norm") {
      torch::nn::utils::clip_grad_norm_(parameters, *options.gradient_clip_val);
    } else {
      torch::nn::utils::clip_grad_value_(parameters, *options.gradient_clip_val);
    }
  }
}

}  // namespace ckptio::detail
