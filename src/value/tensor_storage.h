// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace ckptio::detail {

// True for tensors that are a view of a storage and nothing more: neither sparse, nested nor quantized.
bool has_plain_storage(const at::Tensor& tensor);

// A storage's octets as a uint8 tensor on it.
at::Tensor bytes_of(const c10::Storage& storage);

// The tensor that is such a view of a storage.
at::Tensor make_view(const c10::Storage& storage, c10::ScalarType dtype, std::int64_t offset, c10::IntArrayRef sizes,
                     c10::IntArrayRef strides);

// How many bytes a storage must have for such a view; nullopt for impossible ones.
std::optional<std::size_t> bytes_needed(c10::IntArrayRef sizes, c10::IntArrayRef strides, std::int64_t offset,
                                        std::size_t item_size);

// Why elements of a tensor are not in its storage: that was freed or cut short under it, or never had memory, as that
// of a tensor that stands for zeros. "" where they are. Requires: has_plain_storage(), not meta.
std::string why_no_memory(const at::Tensor& tensor);

}  // namespace ckptio::detail
