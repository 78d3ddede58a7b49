// SPDX-License-Identifier: Apache-2.0
// How errors of a load speak about values, and how LibTorch's own errors become ours.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <sstream>
#include <string>
#include <utility>

#include "ckptio/error.h"
#include "ckptio/value.h"
#include "value/dtype_name.h"

namespace ckptio::detail {

inline std::string shape_name(at::IntArrayRef shape) {
  std::ostringstream out;
  out << shape;  // [3, 4]
  return out.str();
}

// "float32 [3, 4]", or the type's name of what is no tensor.
inline std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "an undefined Tensor";
  return dtype_name(tensor.scalar_type()) + " " + (tensor.is_nested() ? "nested" : shape_name(tensor.sizes()));
}

inline std::string describe(const Value& value) {
  const at::Tensor* tensor = value.get_if<at::Tensor>();
  return tensor != nullptr ? describe(*tensor) : std::string(value.type_name());
}

// Runs `body`, turning LibTorch's exceptions into ckptio::Error.
template <class Body>
decltype(auto) translate_errors(const std::string& what, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const c10::Error& error) {
    throw Error(what + ": " + error.what_without_backtrace());
  }
}

}  // namespace ckptio::detail
