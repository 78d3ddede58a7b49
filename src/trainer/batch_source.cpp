// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/batch_source.h"

#include <c10/util/Type.h>

#include <regex>

namespace ckptio::detail {

std::string short_type_name(const std::type_info& type) {
  static const std::regex qualifier(R"((\w+|\(anonymous namespace\))::)");
  static const std::regex allocator(R"(, allocator<[^<>]*(<[^<>]*(<[^<>]*>)*[^<>]*>)*[^<>]*>)");
  const std::string bare = std::regex_replace(c10::demangle(type.name()), qualifier, "");
  static const std::regex gap(R"( +>)");
  return std::regex_replace(std::regex_replace(bare, allocator, ""), gap, ">");
}

}  // namespace ckptio::detail
