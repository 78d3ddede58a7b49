// SPDX-License-Identifier: Apache-2.0
// Gradients between two batches that are accumulated: the only state of a run that is in no object's state_dict.
#include "trainer/run.h"

namespace ckptio::detail {

Dict Run::gradients() const {
  Dict result;
  if (progress.accumulated_batches == 0) return result;
  if (resume_gradients) return *resume_gradients;
  for (const auto& parameter : module->named_parameters()) {
    if (const torch::Tensor& gradient = parameter->grad(); gradient.defined()) result[parameter.key()] = gradient;
  }
  return result;
}

void Run::restore_gradients() {
  if (!resume_gradients) return;
  const auto parameters = module->named_parameters();
  for (const auto& parameter : parameters) parameter->mutable_grad().reset();  // of an earlier run
  for (const auto& [name, gradient] : *resume_gradients) {
    const torch::Tensor* parameter = parameters.find(name.as<std::string>());
    const auto& saved = gradient.as<at::Tensor>();
    if (parameter == nullptr || parameter->sizes() != saved.sizes() || parameter->dtype() != saved.dtype()) {
      throw MismatchError("the checkpoint has an accumulated gradient of a parameter '" + name.as<std::string>() +
                          "' that the module does not have in that shape and dtype");
    }
    parameter->mutable_grad() = saved.to(parameter->device(), /*non_blocking=*/false, /*copy=*/true);
  }
  resume_gradients.reset();
}

}  // namespace ckptio::detail
