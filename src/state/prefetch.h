// SPDX-License-Identifier: Apache-2.0
// Thousands of live tensors are thousands of places in memory that no cache holds. Who goes through them asks for those
// ahead, so that it waits for several at once.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/TensorImpl.h>

#include <cstddef>

namespace ckptio::detail {

// Before `tensor(index)` is looked at, of `n`, by a loop that counts up. Inline, or gcc takes a function that does
// nothing else for one that can be left out.
template <class GetTensor>
[[gnu::always_inline]] inline void prefetch_ahead(std::size_t index, std::size_t n, const GetTensor& tensor) {
  constexpr std::size_t kFar = 16, kNear = 8, kLineBytes = 64;
  if (index + kFar < n) {
    const auto* impl = reinterpret_cast<const char*>(tensor(index + kFar).unsafeGetTensorImpl());
    for (std::size_t at = 0; at < sizeof(c10::TensorImpl); at += kLineBytes) __builtin_prefetch(impl + at);
  }
  // By now the tensor is there, and says where its storage is.
  if (index + kNear < n) {
    const c10::StorageImpl* storage =
        tensor(index + kNear).unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
    if (storage == nullptr) return;
    __builtin_prefetch(storage);
    __builtin_prefetch(reinterpret_cast<const char*>(storage) + kLineBytes);
  }
}

}  // namespace ckptio::detail
