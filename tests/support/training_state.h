// SPDX-License-Identifier: Apache-2.0
// A small checkpoint as a training loop makes them, the same each time.
#pragma once

#include <torch/torch.h>

#include "ckptio/value.h"

namespace ckptio::test {

inline Checkpoint training_state() {
  torch::manual_seed(7);
  return {{"epoch", 3},
          {"none", nullptr},
          {"state_dict", Dict{{"0.weight", torch::rand({4, 3})}, {"0.bias", torch::rand({4})}}},
          {"optimizer_states", List{Dict{{"state", Dict{{0, Dict{{"step", 1.0}}}}}, {"betas", Tuple{0.9, 0.999}}}}}};
}

}  // namespace ckptio::test
