// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace ckptio::detail {

// True for tensors that are a view of a storage and nothing more: neither sparse, nested nor quantized.
bool has_plain_storage(const at::Tensor& tensor);

// A storage's octets as a uint8 tensor on it.
at::Tensor bytes_of(const c10::Storage& storage);

}  // namespace ckptio::detail
