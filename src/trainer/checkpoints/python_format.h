// SPDX-License-Identifier: Apache-2.0
// Numbers as Python's str() and format() write them, for file names with templates in Python's notation.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace ckptio::detail {

using Number = std::variant<std::int64_t, double>;

// Python's str(): "3", "0.03", "2.0", "1e-05", "nan".
std::string python_str(const Number& number);

// Python's format(): `spec` is [[fill]align][sign][#][0][width][.precision][type] with the types b d e E f F g G n o x
// X %. ValueError, in Python's words where it has some, for any other, and for a type that the number is not.
std::string python_format(const Number& number, std::string_view spec);

// Python's repr() of a plain string.
inline std::string in_quotes(const std::string& text) { return "'" + text + "'"; }

}  // namespace ckptio::detail
