// SPDX-License-Identifier: Apache-2.0
// Two checkpoints, compared bit for bit.
#pragma once

#include <string>
#include <vector>

#include "ckptio/value.h"

// What was looked at below one key of two checkpoints.
struct Comparison {
  std::string key;
  int64_t n_tensors = 0, n_values = 0, n_bytes = 0;
  std::vector<std::string> differences;  // the places
};

// One for each top-level key of either.
std::vector<Comparison> compare(const ckptio::Checkpoint& a, const ckptio::Checkpoint& b);
