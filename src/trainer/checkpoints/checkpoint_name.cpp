// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/checkpoint_name.h"

#include <functional>
#include <vector>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

struct Part {
  std::string literal{};
  bool is_field = false;
  std::string metric{}, spec{};
};

[[noreturn]] void throw_unbalanced(char brace, const std::string& name_template) {
  throw ValueError(std::string("cannot make a file name of '") + name_template + "': single '" + brace +
                   "' encountered; write it twice for the character itself");
}

// Literal text and fields in turn.
std::vector<Part> split(const std::string& name_template) {
  std::vector<Part> parts(1);
  for (std::size_t i = 0; i < name_template.size(); ++i) {
    const char c = name_template[i];
    const bool is_brace = c == '{' || c == '}';
    if (is_brace && i + 1 < name_template.size() && name_template[i + 1] == c) {
      ++i;
    } else if (c == '}') {
      throw_unbalanced(c, name_template);
    } else if (c == '{') {
      const auto end = name_template.find('}', i);
      if (end == std::string::npos) throw_unbalanced(c, name_template);
      const std::string field = name_template.substr(i + 1, end - i - 1);
      const auto colon = field.find(':');
      parts.push_back({.is_field = true,
                       .metric = field.substr(0, colon),
                       .spec = colon == std::string::npos ? "" : field.substr(colon + 1)});
      parts.emplace_back();
      i = end;
      continue;
    }
    parts.back().literal += c;
  }
  return parts;
}

std::vector<Part> split_or_default(const std::string& name_template, const NameStyle& style) {
  return split(name_template.empty() ? "{epoch}" + style.join_char + "{step}" : name_template);
}

}  // namespace

std::string format_name(const std::string& name_template, const NamedNumbers& metrics, const NameStyle& style) {
  std::string name;
  for (const Part& part : split_or_default(name_template, style)) {
    if (!part.is_field) {
      name += part.literal;
      continue;
    }
    const auto found = metrics.find(part.metric);
    if (style.auto_insert_metric_name) name += part.metric + style.equals_char;
    name += python_format(found == metrics.end() ? Number(std::int64_t{0}) : found->second, part.spec);
  }
  return name;
}

bool begins_like(const std::string& name, const std::string& name_template, const NameStyle& style) {
  std::vector<std::string> literals(1);
  for (const Part& part : split_or_default(name_template, style)) {
    if (!part.is_field) {
      literals.back() += part.literal;
    } else {
      if (style.auto_insert_metric_name) literals.back() += part.metric + style.equals_char;
      literals.emplace_back();
    }
  }
  if (!name.starts_with(literals.front())) return false;
  std::size_t at = literals.front().size();
  for (std::size_t i = 1; i < literals.size(); ++i) {
    at = name.find(literals[i], at);
    if (at == std::string::npos) return false;
    at += literals[i].size();
  }
  return true;
}

}  // namespace ckptio::detail
