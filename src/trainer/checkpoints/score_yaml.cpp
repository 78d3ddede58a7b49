// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/score_yaml.h"

#include <algorithm>
#include <cmath>

#include "trainer/checkpoints/python_format.h"

namespace ckptio::detail {
namespace {

// YAML 1.1 takes "1e-05" for a string: a float has a point.
std::string yaml_float(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  std::string text = python_str(value);
  if (const auto exponent = text.find('e'); exponent != std::string::npos && text.find('.') == std::string::npos) {
    text.insert(exponent, ".0");
  }
  return text;
}

// Double-quoted, in which JSON's escapes are YAML's.
std::string yaml_string(const std::string& text) {
  static constexpr const char* kHex = "0123456789ABCDEF";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7F) {
      quoted += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace

std::string scores_as_yaml(std::vector<std::pair<std::string, double>> scores) {
  if (scores.empty()) return "{}\n";
  std::ranges::sort(scores);
  std::string yaml;
  for (const auto& [path, score] : scores) {
    // A longer key needs the explicit form.
    const bool is_long = path.size() > 120;
    yaml += is_long ? "? " + yaml_string(path) + "\n: " : yaml_string(path) + ": ";
    yaml += yaml_float(score) + "\n";
  }
  return yaml;
}

}  // namespace ckptio::detail
