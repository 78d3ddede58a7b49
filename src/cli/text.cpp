// SPDX-License-Identifier: Apache-2.0
#include "cli/text.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <vector>

namespace ckptio::cli {
namespace {

constexpr std::uint32_t kBadByte = 0xFFFFFFFF;

// The code point at `at`, which moves behind it; kBadByte where there is none. Lone surrogates are let through.
std::uint32_t next_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  const int n_more = first < 0x80                    ? 0
                     : first >= 0xC2 && first < 0xE0 ? 1
                     : first >= 0xE0 && first < 0xF0 ? 2
                     : first >= 0xF0 && first < 0xF5 ? 3
                                                     : -1;
  if (n_more < 0 || at + static_cast<std::size_t>(n_more) >= text.size()) return ++at, kBadByte;
  std::uint32_t point = n_more == 0 ? first : first & (0x3Fu >> n_more);
  for (int i = 1; i <= n_more; ++i) {
    if ((byte(at + static_cast<std::size_t>(i)) & 0xC0) != 0x80) return ++at, kBadByte;
    point = point << 6 | (byte(at + static_cast<std::size_t>(i)) & 0x3F);
  }
  const bool overlong = (n_more == 2 && point < 0x800) || (n_more == 3 && (point < 0x10000 || point > 0x10FFFF));
  if (overlong) return ++at, kBadByte;
  at += static_cast<std::size_t>(n_more) + 1;
  return point;
}

void append_hex(std::string& text, std::uint32_t value, int n_digits) {
  for (int shift = 4 * (n_digits - 1); shift >= 0; shift -= 4) text += "0123456789abcdef"[value >> shift & 15];
}

void append_json(std::string& text, std::uint32_t point) {
  static constexpr std::string_view kNamed = "\"\\\b\f\n\r\t", kLetters = "\"\\bfnrt";
  const std::size_t named = point < 128 ? kNamed.find(static_cast<char>(point)) : std::string_view::npos;
  if (named != std::string_view::npos) {
    text += '\\';
    text += kLetters[named];
  } else if (point >= 0x20 && point < 0x7F) {
    text += static_cast<char>(point);
  } else if (point < 0x10000) {
    text += "\\u";
    append_hex(text, point, 4);
  } else {
    text += "\\u";
    append_hex(text, 0xD800 + ((point - 0x10000) >> 10), 4);
    text += "\\u";
    append_hex(text, 0xDC00 + ((point - 0x10000) & 0x3FF), 4);
  }
}

// C1 controls, and what changes the direction or the place of the text around it.
bool is_hidden(std::uint32_t point) {
  return point < 0x20 || (point >= 0x7F && point < 0xA0) || (point >= 0xD800 && point < 0xE000) ||
         (point >= 0x200B && point <= 0x200F) || (point >= 0x2028 && point <= 0x202E) ||
         (point >= 0x2066 && point <= 0x2069) || point == 0xFEFF;
}

}  // namespace

std::string json_string(std::string_view utf8) {
  std::string text = "\"";
  for (std::size_t at = 0; at < utf8.size();) {
    const std::uint32_t point = next_point(utf8, at);
    append_json(text, point == kBadByte ? 0xFFFD : point);
  }
  return text + '"';
}

std::string hex_of(std::string_view bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const char byte : bytes) append_hex(text, static_cast<unsigned char>(byte), 2);
  return text;
}

std::string hex_of_bits(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  std::string text;
  append_hex(text, static_cast<std::uint32_t>(bits >> 32), 8);
  append_hex(text, static_cast<std::uint32_t>(bits), 8);
  return text;
}

std::string integer_text(std::string_view twos_complement) {
  constexpr std::size_t kMaxDecimalBits = 10000;  // the work grows with the square of the length
  std::vector<std::uint32_t> limbs((twos_complement.size() + 3) / 4 + 1);
  const bool negative = !twos_complement.empty() && (twos_complement.back() & 0x80) != 0;
  for (std::size_t i = 0; i < 4 * limbs.size(); ++i) {
    const auto byte = static_cast<unsigned char>(i < twos_complement.size() ? twos_complement[i] : negative ? 0xFF : 0);
    limbs[i / 4] |= static_cast<std::uint32_t>(byte) << (8 * (i % 4));
  }
  std::uint64_t carry = 1;
  if (negative) {
    for (auto& limb : limbs) carry += ~limb, limb = static_cast<std::uint32_t>(carry), carry >>= 32;
  }
  while (limbs.size() > 1 && limbs.back() == 0) limbs.pop_back();
  std::string digits;  // the last first
  if (32 * limbs.size() - static_cast<std::size_t>(std::countl_zero(limbs.back())) > kMaxDecimalBits) {
    for (const std::uint32_t limb : limbs) {
      for (int shift = 0; shift < 32; shift += 4) digits += "0123456789abcdef"[limb >> shift & 15];
    }
    digits.erase(digits.find_last_not_of('0') + 1);
    digits += "x0";
  } else {
    while (limbs.size() > 1 || limbs[0] != 0) {
      std::uint64_t rest = 0;
      for (std::size_t i = limbs.size(); i-- > 0;) {
        rest = rest << 32 | limbs[i];
        limbs[i] = static_cast<std::uint32_t>(rest / 1000000000), rest %= 1000000000;
      }
      for (int i = 0; i < 9; ++i, rest /= 10) digits += static_cast<char>('0' + rest % 10);
      while (limbs.size() > 1 && limbs.back() == 0) limbs.pop_back();
    }
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.empty()) digits = "0";
  }
  if (negative) digits += '-';
  return {digits.rbegin(), digits.rend()};
}

std::size_t n_code_points(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string printable(std::string_view utf8, std::size_t max_points) {
  std::string text;
  std::size_t n_points = 0;
  for (std::size_t at = 0; at < utf8.size(); ++n_points) {
    if (n_points == max_points) return text + "...";
    const std::size_t begin = at;
    const std::uint32_t point = next_point(utf8, at);
    if (point == '\n') {
      text += "\\n";
    } else if (point == kBadByte || is_hidden(point)) {
      for (std::size_t i = begin; i < at; ++i) {
        text += "\\x";
        append_hex(text, static_cast<unsigned char>(utf8[i]), 2);
      }
    } else {
      text += utf8.substr(begin, at - begin);
    }
  }
  return text;
}

std::string quoted(std::string_view utf8, std::size_t max_points) { return "'" + printable(utf8, max_points) + "'"; }

std::string size_text(std::uint64_t n_bytes) {
  if (n_bytes < 1000) return std::to_string(n_bytes) + " B";
  static constexpr const char* kUnits[] = {" kB", " MB", " GB", " TB", " PB", " EB"};
  double value = static_cast<double>(n_bytes) / 1000;
  int unit = 0;
  for (; value >= 999.95 && unit < 5; ++unit) value /= 1000;
  const auto tenths = static_cast<std::uint64_t>(std::llround(value * 10));
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + kUnits[unit];
}

std::string count_text(std::uint64_t n, const char* singular, const char* plural) {
  std::string digits = std::to_string(n);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits + " " + (n == 1 ? singular : plural);
}

std::string number_text(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  std::string text(buffer, end);
  if (std::isfinite(value) && text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

}  // namespace ckptio::cli
