// SPDX-License-Identifier: Apache-2.0
#include "codec/pickle_text.h"

#include <charconv>
#include <vector>

#include "codec/limits.h"

namespace ckptio::detail {
namespace {

// All of the text as a number of the base, at most `max`.
std::optional<std::uint32_t> parse_code(std::string_view text, int base, std::uint32_t max) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto add = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xC0 | code >> 6), add(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    add(0xE0 | code >> 12), add(0x80 | (code >> 6 & 0x3F)), add(0x80 | (code & 0x3F));
  } else {
    add(0xF0 | code >> 18), add(0x80 | (code >> 12 & 0x3F)), add(0x80 | (code >> 6 & 0x3F)), add(0x80 | (code & 0x3F));
  }
}

// Of the escape behind a backslash at the begin of `rest`: its bytes go to `out`, and are removed.
bool take_escape(std::string_view& rest, std::string& out) {
  if (rest.empty()) return false;
  constexpr std::string_view kNames = "\\'\"abfnrtv";
  constexpr std::string_view kBytes = "\\'\"\a\b\f\n\r\t\v";
  if (const auto index = kNames.find(rest[0]); index != std::string_view::npos) {
    out += kBytes[index];
    rest.remove_prefix(1);
    return true;
  }
  const bool is_hex = rest[0] == 'x';
  std::size_t n_digits = 0;
  if (is_hex) {
    rest.remove_prefix(1);
    n_digits = 2;
  } else {
    while (n_digits < 3 && n_digits < rest.size() && rest[n_digits] >= '0' && rest[n_digits] <= '7') ++n_digits;
  }
  if (n_digits == 0 || rest.size() < n_digits) return false;
  const auto code = parse_code(rest.substr(0, n_digits), is_hex ? 16 : 8, 0xFF);
  if (!code) return false;
  out += static_cast<char>(*code);
  rest.remove_prefix(n_digits);
  return true;
}

}  // namespace

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::string> parse_integer(std::string_view text) {
  const bool is_negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text.empty() || text.size() > kMaxIntegerDigits) return std::nullopt;
  std::vector<std::uint32_t> words(1);  // least significant first
  for (const char digit : text) {
    if (digit < '0' || digit > '9') return std::nullopt;
    std::uint64_t carry = static_cast<std::uint64_t>(digit - '0');
    for (std::uint32_t& word : words) {
      carry += std::uint64_t{word} * 10;
      word = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry != 0) words.push_back(static_cast<std::uint32_t>(carry));
  }
  words.push_back(0);  // the sign
  std::uint64_t carry = is_negative ? 1 : 0;
  std::string bytes;
  for (const std::uint32_t word : words) {
    carry += is_negative ? ~word : word;
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(carry >> shift);
    carry >>= 32;
  }
  return bytes;
}

std::optional<double> parse_float(std::string_view text) {
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::string> parse_quoted(std::string_view text) {
  if (text.size() < 2 || (text[0] != '\'' && text[0] != '"') || text.back() != text[0]) return std::nullopt;
  std::string out;
  std::string_view rest = text.substr(1, text.size() - 2);
  while (!rest.empty()) {
    const char c = rest[0];
    rest.remove_prefix(1);
    if (c != '\\') {
      out += c;
    } else if (!take_escape(rest, out)) {
      return std::nullopt;
    }
  }
  return out;
}

std::optional<std::string> parse_raw_unicode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (text[i] != '\\' || (next != 'u' && next != 'U')) {
      append_utf8(out, static_cast<unsigned char>(text[i]));
      continue;
    }
    const std::size_t n_digits = next == 'u' ? 4 : 8;
    if (text.size() - i - 2 < n_digits) return std::nullopt;
    const auto code = parse_code(text.substr(i + 2, n_digits), 16, 0x10FFFF);
    if (!code) return std::nullopt;
    append_utf8(out, *code);
    i += 1 + n_digits;
  }
  return out;
}

}  // namespace ckptio::detail
