// SPDX-License-Identifier: Apache-2.0
#include "value/n_bytes.h"

#include "value/replace_storages.h"

namespace ckptio::detail {

std::int64_t n_bytes_of(const Checkpoint& checkpoint) {
  std::int64_t n_bytes = 0;
  Value copy(checkpoint);
  replace_storages(
      copy,
      [&](const c10::Storage& storage) {
        n_bytes += static_cast<std::int64_t>(storage.nbytes());
        return storage;
      },
      [](const at::Tensor& tensor) { return tensor; });
  return n_bytes;
}

}  // namespace ckptio::detail
