// SPDX-License-Identifier: Apache-2.0
#include "value/tensor_storage.h"

#include <ATen/ATen.h>

namespace ckptio::detail {

bool has_plain_storage(const at::Tensor& tensor) {
  return tensor.layout() == c10::kStrided && !tensor.is_quantized() && !tensor.is_nested() && tensor.has_storage();
}

at::Tensor bytes_of(const c10::Storage& storage) {
  const auto n_bytes = static_cast<std::int64_t>(storage.nbytes());
  return at::empty({0}, at::TensorOptions(at::kByte).device(storage.device())).set_(storage, 0, {n_bytes}, {1});
}

}  // namespace ckptio::detail
