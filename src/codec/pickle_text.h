// SPDX-License-Identifier: Apache-2.0
// What the opcodes of protocol 0 write as lines of text. All return nullopt for text that is not of the form.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ckptio::detail {

std::optional<std::uint64_t> parse_unsigned(std::string_view text);

// Decimal digits with a sign or not, at most kMaxIntegerDigits, as two's complement, least significant byte first.
std::optional<std::string> parse_integer(std::string_view text);

// As Python's float() takes what repr() gives: "1e-05", "inf", "nan".
std::optional<double> parse_float(std::string_view text);

// A string in quotes with Python 2's escapes, as its bytes.
std::optional<std::string> parse_quoted(std::string_view text);

// Python's raw-unicode-escape: Latin-1 with \uXXXX and \UXXXXXXXX, as UTF-8 ('surrogatepass').
std::optional<std::string> parse_raw_unicode(std::string_view text);

}  // namespace ckptio::detail
