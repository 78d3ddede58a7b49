// SPDX-License-Identifier: Apache-2.0
#include "loggers/number_text.h"

#include <charconv>
#include <cmath>

namespace ckptio::detail {
namespace {

std::string not_finite(double value) {
  if (std::isnan(value)) return "nan";
  return value < 0 ? "-inf" : "inf";
}

// Python's bounds for writing an exponent.
bool is_written_plainly(double value) {
  const double size = std::abs(value);
  return size == 0 || (size >= 1e-4 && size < 1e16);
}

}  // namespace

std::string number_text(double value) {
  if (!std::isfinite(value)) return not_finite(value);
  const bool plain = is_written_plainly(value);
  char text[64];
  const auto end =
      std::to_chars(text, text + sizeof text, value, plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string result(text, end.ptr);
  if (plain && result.find('.') == std::string::npos) result += ".0";
  return result;
}

std::string fixed_text(double value, int n_digits) {
  if (!std::isfinite(value)) return not_finite(value);
  std::string text(400 + static_cast<std::size_t>(n_digits), '\0');  // the largest double has 309 digits
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed, n_digits);
  text.resize(static_cast<std::size_t>(end.ptr - text.data()));
  return text;
}

}  // namespace ckptio::detail
