// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Layout.h>
#include <c10/core/ScalarType.h>

#include <string>

namespace ckptio::detail {

// Python's name of a dtype, without "torch.": float32, int64, bool, ...
std::string dtype_name(c10::ScalarType type);

// The same of a layout: sparse_coo, strided, ...
std::string layout_name(c10::Layout layout);

}  // namespace ckptio::detail
