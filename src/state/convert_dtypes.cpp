// SPDX-License-Identifier: Apache-2.0
#include "state/convert_dtypes.h"

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>

#include "value/dtype_name.h"

namespace ckptio::detail {

namespace {

// In the order in which one can be widened to the next.
enum class Kind : std::uint8_t { boolean, integer, floating, complex };

// nullopt for what Tensor::copy_ does not convert (quantized, packed below a byte), and for dtypes not known here.
std::optional<Kind> kind_of(c10::ScalarType type) {
  if (type == c10::kBool) return Kind::boolean;
  if (c10::isComplexType(type)) return Kind::complex;
  if (type == c10::ScalarType::Float4_e2m1fn_x2) return std::nullopt;
  if (c10::isFloatingType(type)) return Kind::floating;
  switch (type) {
    case c10::kByte:
    case c10::kChar:
    case c10::kShort:
    case c10::kInt:
    case c10::kLong:
    case c10::kUInt16:
    case c10::kUInt32:
    case c10::kUInt64:
      return Kind::integer;
    default:
      return std::nullopt;
  }
}

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::boolean:
      return "a bool";
    case Kind::integer:
      return "an integer";
    case Kind::floating:
      return "a floating";
    default:
      return "a complex";
  }
}

bool is_plain(const at::Tensor& tensor) { return tensor.layout() == c10::kStrided && !tensor.is_nested(); }

}  // namespace

std::string why_not_dtype(const at::Tensor& target, const at::Tensor& source, bool convert) {
  if (target.scalar_type() == source.scalar_type()) return "";
  const std::string why =
      "dtype " + dtype_name(target.scalar_type()) + " expected, found " + dtype_name(source.scalar_type());
  if (!convert) return why;
  const auto to = kind_of(target.scalar_type()), from = kind_of(source.scalar_type());
  if (!to || !from) return why + " (these are not converted)";
  if (*from > *to) return why + " (not converted: from " + name_of(*from) + " dtype to " + name_of(*to) + " one)";
  if (!is_plain(target) || !is_plain(source)) return why + " (converted are strided tensors alone)";
  return "";
}

}  // namespace ckptio::detail
