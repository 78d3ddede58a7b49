// SPDX-License-Identifier: Apache-2.0
// The largest differences between the elements of two tensors of one shape, read piece by piece.
#pragma once

#include <cstdint>

#include "cli/storage_bytes.h"
#include "cli/tensor_bytes.h"

namespace ckptio::cli {

struct TensorDifference {
  std::uint64_t n_different = 0;  // elements; -0.0 equals 0.0, NaN equals NaN
  std::uint64_t n_nan = 0;        // of them those with NaN on one side alone, which the rest leaves out
  double absolute = 0;            // the largest |a - b|
  double relative = 0;            // the largest |a - b| / max(|a|, |b|)
};

// Requires: as many elements in both, and as many numbers in each (n_parts).
TensorDifference difference(StorageBytes& a_bytes, const TensorView& a, StorageBytes& b_bytes, const TensorView& b);

}  // namespace ckptio::cli
