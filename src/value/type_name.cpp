// SPDX-License-Identifier: Apache-2.0
#include "value/type_name.h"

#include <c10/util/Type.h>

namespace ckptio::detail {

std::string type_name(const std::type_info& type) {
  const std::string full = c10::demangle(type.name());
  const std::size_t scope = full.rfind("::", full.find('<'));
  return scope == std::string::npos ? full : full.substr(scope + 2);
}

}  // namespace ckptio::detail
