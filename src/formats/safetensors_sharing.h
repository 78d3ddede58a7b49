// SPDX-License-Identifier: Apache-2.0
// Which tensors of a checkpoint see the same memory, and which of them a safetensors file keeps.
#pragma once

#include <cstddef>
#include <vector>

#include "formats/safetensors_structure.h"

namespace ckptio::detail {

struct TensorSharing {
  std::vector<std::size_t> kept;  // indices of the tensors to write, in the given order
  std::vector<ViewOf> views;      // of each tensor, in the memory of one that is kept; of those themselves
};

// As _remove_duplicate_names in safetensors/torch.py: of tensors that overlap, the first in alphabetical order that
// covers all that the others see, contiguous ones before others, is kept. Tensors of one memory that do not overlap are
// each kept. Where none covers the others, `problems` is told, of all.
TensorSharing find_sharing(const std::vector<NamedTensor>& tensors, Problems& problems);

}  // namespace ckptio::detail
