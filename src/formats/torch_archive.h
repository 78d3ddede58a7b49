// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/serialize/archive.h>

#include <string>
#include <vector>

#include "ckptio/value.h"

namespace ckptio::detail {

// What a LibTorch archive holds.
struct TorchArchive {
  Checkpoint checkpoint;
  // Where each storage was, in the order of first appearance; empty if all were on the CPU.
  std::vector<std::string> locations;
};

torch::serialize::InputArchive& operator>>(torch::serialize::InputArchive& archive, TorchArchive& result);

}  // namespace ckptio::detail
