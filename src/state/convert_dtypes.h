// SPDX-License-Identifier: Apache-2.0
// Which dtypes a load may convert into which (LoadOptions::convert_dtypes).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace ckptio::detail {

// What is wrong with the dtype of `source`, for a message, if its elements are to be copied into `target`; empty where
// nothing is. `target` stands for its dtype and layout. `convert`: another dtype is right where it keeps or widens the
// kind of number and both are plain strided tensors.
std::string why_not_dtype(const at::Tensor& target, const at::Tensor& source, bool convert);

}  // namespace ckptio::detail
