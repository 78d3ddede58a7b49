// SPDX-License-Identifier: Apache-2.0
// The modules of a LibTorch archive, and which of their tensors are parameters and buffers, as torch.jit.load names
// them.
//
// Read from the declarations in its code/, as text. Threads: safe. Errors: CorruptError, UnsupportedError for code that
// is too long.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "codec/archive.h"

namespace ckptio::cli {

struct ScriptModules {
  std::vector<std::string> names;  // "", "fc", "fc.act": the root first, each before those in it
  // Parameters, then buffers: "fc.weight". A tensor that has several names has the first.
  std::vector<std::pair<std::string, const detail::Object*>> tensors;
};

// Nothing if the root is no module. Requires: a zip archive.
ScriptModules script_modules(const detail::Archive& archive);

}  // namespace ckptio::cli
