// SPDX-License-Identifier: Apache-2.0
// TensorWriter: appends bytes and tensors to a file: small ones gathered, large ones from where they are.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <string_view>
#include <vector>

#include "ckptio/storage/storage_backend.h"

namespace ckptio::detail {

class TensorWriter {
 public:
  explicit TensorWriter(WritableFile& file) : file_(file) {}

  void append(const void* data, std::size_t n_bytes);
  // The elements in the order of the indices, the last one fastest, on whatever device and with whatever strides; of a
  // conjugated or negated view as it reads. With a few MB of memory.
  // Requires: a plain strided tensor.
  void append(const at::Tensor& tensor);
  // Writes what is gathered. Requires: called last.
  void flush();

 private:
  void append_pieces(const at::Tensor& tensor);

  WritableFile& file_;
  std::vector<char> gathered_;
};

}  // namespace ckptio::detail
