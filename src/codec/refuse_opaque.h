// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "codec/object.h"

namespace ckptio::detail {

// weights_only = true: UnsafeError if the file names any class or function beyond those of tensors and plain values,
// used or not; lists each, and where it is.
void refuse_opaque(const ObjectGraph& graph, const std::string& path);

}  // namespace ckptio::detail
