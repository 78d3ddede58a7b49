// SPDX-License-Identifier: Apache-2.0
// The elements of sparse and nested tensors, which stand where numbers in other storages say.
// Requires: detail::check_index_values has passed. Errors: those of reading; UnsupportedError.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cli/storage_bytes.h"
#include "cli/tensor_bytes.h"
#include "codec/object.h"

namespace ckptio::cli {

// The bytes of tensor.to_dense() of a sparse_coo tensor; nullopt where there are more than `max_bytes`, or where its
// elements cannot be added.
std::optional<std::vector<unsigned char>> dense_bytes(StorageBytes& bytes, const detail::ObjectTensor& tensor,
                                                      std::uint64_t max_bytes);

// The tensors that a nested tensor is made of, as views of its buffer.
std::vector<TensorView> nested_items(StorageBytes& bytes, const detail::ObjectTensor& tensor);

}  // namespace ckptio::cli
