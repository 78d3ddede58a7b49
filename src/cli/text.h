// SPDX-License-Identifier: Apache-2.0
// Small pieces of text that the tool prints: JSON strings, numbers, sizes, and what may be shown on a terminal.
// Threads: free functions without state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ckptio::cli {

// `bytes` as a JSON string in ASCII with its quotes, as Python's json.dumps writes it. UTF-8 in, encoded lone
// surrogates allowed; what is no UTF-8 becomes U+FFFD.
std::string json_string(std::string_view utf8);

std::string hex_of(std::string_view bytes);      // "00ff"
std::string hex_of_bits(double value);           // IEEE 754, most significant byte first
std::string json_integers(const auto& values) {  // "[1, 2]"
  std::string text = "[";
  for (const auto value : values) text += (text.size() > 1 ? ", " : "") + std::to_string(value);
  return text + "]";
}

// A big integer as Python's str() writes it, or, of more than 10000 bits, as hex() does. `twos_complement`: least
// significant byte first.
std::string integer_text(std::string_view twos_complement);

// Length in Unicode code points; whether all are ASCII.
std::size_t n_code_points(std::string_view utf8);
bool is_ascii(std::string_view text);

// For people: control characters and what is no UTF-8 become \xNN, quotes are added, and what is longer than
// `max_points` is cut and ends in an ellipsis. No text of a file reaches a terminal but through this.
std::string quoted(std::string_view utf8, std::size_t max_points = 60);
std::string printable(std::string_view utf8, std::size_t max_points = 200);  // the same without quotes

std::string size_text(std::uint64_t n_bytes);                                       // "532 B", "1.5 kB", "12.3 GB"
std::string count_text(std::uint64_t n, const char* singular, const char* plural);  // "1 tensor", "1,234 tensors"
std::string number_text(double value);  // the shortest text that reads back as the same double: "0.001"

}  // namespace ckptio::cli
