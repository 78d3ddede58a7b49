// SPDX-License-Identifier: Apache-2.0
// What stands in the storages of sparse and nested tensors and says where their elements are: indices, sizes, offsets.
// Reading a graph does not look at them. Errors: CorruptError, which names the tensor by `where`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/storage_bytes.h"
#include "cli/tensor_bytes.h"
#include "codec/object.h"

namespace ckptio::cli {

// Checks that every index of a sparse tensor is inside it, and of a compressed one that rows begin where the ones
// before end. Streams the indices.
void check_sparse(StorageBytes& bytes, const detail::ObjectTensor& tensor, const std::string& where);

// The bytes of tensor.to_dense() of a sparse_coo tensor; nullopt where there are more than `max_bytes`, or where its
// elements cannot be added. Requires: check_sparse passed.
std::optional<std::vector<unsigned char>> dense_bytes(StorageBytes& bytes, const detail::ObjectTensor& tensor,
                                                      std::uint64_t max_bytes);

// The tensors that a nested tensor is made of, as views of its buffer.
std::vector<TensorView> nested_items(StorageBytes& bytes, const detail::ObjectTensor& tensor, const std::string& where);

}  // namespace ckptio::cli
