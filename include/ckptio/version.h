// SPDX-License-Identifier: Apache-2.0
// The version of ckptio. CMakeLists.txt reads it from here.
#pragma once

namespace ckptio {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace ckptio
