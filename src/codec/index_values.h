// SPDX-License-Identifier: Apache-2.0
// Checks the numbers that tensors hold as data and use as places in memory: the indices of sparse tensors, the sizes,
// strides and offsets of nested ones. PyTorch takes them as they come, and reads or writes outside of the tensor.
//
// Memory: 1 MiB; for a deflated storage as much as it has, up to a limit. Threads: as the archive.
// Errors: CorruptError naming the record and the byte; UnsupportedError beyond the limits.
#pragma once

#include "codec/archive.h"

namespace ckptio::detail {

void check_index_values(const Archive& archive);

}  // namespace ckptio::detail
