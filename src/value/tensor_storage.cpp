// SPDX-License-Identifier: Apache-2.0
#include "value/tensor_storage.h"

#include <ATen/ATen.h>
#include <c10/core/TensorImpl.h>

namespace ckptio::detail {

bool has_plain_storage(const at::Tensor& tensor) {
  return tensor.layout() == c10::kStrided && !tensor.is_quantized() && !tensor.is_nested() && tensor.has_storage();
}

at::Tensor bytes_of(const c10::Storage& storage) {
  const auto n_bytes = static_cast<std::int64_t>(storage.nbytes());
  return at::empty({0}, at::TensorOptions(at::kByte).device(storage.device())).set_(storage, 0, {n_bytes}, {1});
}

at::Tensor make_view(const c10::Storage& storage, c10::ScalarType dtype, std::int64_t offset, c10::IntArrayRef sizes,
                     c10::IntArrayRef strides) {
  const auto n_bytes = bytes_needed(sizes, strides, offset, c10::elementSize(dtype));
  if (!storage.device().is_cpu() || c10::isQIntType(dtype) || !n_bytes || *n_bytes > storage.nbytes()) {
    return at::empty({0}, at::TensorOptions(dtype).device(storage.device())).set_(storage, offset, sizes, strides);
  }
  // What the above comes to, without going through the dispatcher twice.
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), c10::scalarTypeToTypeMeta(dtype));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
  return tensor;
}

std::string why_no_memory(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return "";
  const c10::Storage& storage = tensor.storage();
  const auto n_bytes = bytes_needed(tensor.sizes(), tensor.strides(), tensor.storage_offset(), tensor.element_size());
  if (n_bytes && *n_bytes <= storage.nbytes() && storage.data() != nullptr) return "";
  return "a tensor of " + std::to_string(n_bytes.value_or(0)) + " bytes, of which its storage has " +
         std::to_string(storage.data() == nullptr ? 0 : storage.nbytes()) + " in memory";
}

std::optional<std::size_t> bytes_needed(c10::IntArrayRef sizes, c10::IntArrayRef strides, std::int64_t offset,
                                        std::size_t item_size) {
  if (sizes.size() != strides.size() || offset < 0) return std::nullopt;
  std::int64_t last = offset;
  bool empty = false;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 0 || strides[i] < 0) return std::nullopt;
    if (sizes[i] == 0) {
      empty = true;
      continue;
    }
    std::int64_t extent = 0;
    if (__builtin_mul_overflow(sizes[i] - 1, strides[i], &extent) || __builtin_add_overflow(last, extent, &last)) {
      return std::nullopt;
    }
  }
  std::size_t n_bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::size_t>(last) + (empty ? 0 : 1), item_size, &n_bytes)) {
    return std::nullopt;
  }
  return n_bytes;
}

}  // namespace ckptio::detail
