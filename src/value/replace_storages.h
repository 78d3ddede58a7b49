// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Storage.h>

#include <functional>

#include "ckptio/value.h"

namespace ckptio::detail {

// Puts other storages under the tensors in `value`. `replace` is called once for each storage, in the order of first
// appearance, and may give the same one back; tensors that share one share its replacement, as the same views.
// `replace_other`: tensors without a plain storage (sparse, quantized, nested).
// `value`'s containers are changed in place; tensors are replaced by new ones.
void replace_storages(Value& value, const std::function<c10::Storage(const c10::Storage&)>& replace,
                      const std::function<at::Tensor(const at::Tensor&)>& replace_other);

}  // namespace ckptio::detail
