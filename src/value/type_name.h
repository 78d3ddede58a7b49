// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <typeinfo>

namespace ckptio::detail {

// The name of a class without its namespaces, as messages and keys have it: "ModelCheckpoint".
std::string type_name(const std::type_info& type);

}  // namespace ckptio::detail
