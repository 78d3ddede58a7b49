// SPDX-License-Identifier: Apache-2.0
// Where the engine finds the bytes of a tensor that it writes.
#pragma once

#include <ATen/core/Tensor.h>

#include "engine/io_engine.h"

namespace ckptio::detail {

// Sets the record's n_bytes and where they come from: the elements in the order of the indices, the last one fastest,
// on whatever device and with whatever strides; of a conjugated or negated view as it reads. Those that are contiguous
// on the CPU are written from where they are, others are copied as they are written.
// Waits for what the device was asked to do with the tensor.
// Requires: a plain strided tensor, whose memory outlives the record. ValueError as below.
void set_data(WriteRecord& record, const at::Tensor& tensor);

// ValueError for a storage that has a size and no memory, as that of a tensor that stands for zeros.
void require_memory(const c10::Storage& storage);

}  // namespace ckptio::detail
