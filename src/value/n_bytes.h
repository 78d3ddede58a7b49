// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ckptio/value.h"

namespace ckptio::detail {

// Of the storages of a checkpoint's tensors, each counted once.
std::int64_t n_bytes_of(const Checkpoint& checkpoint);

}  // namespace ckptio::detail
