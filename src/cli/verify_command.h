// SPDX-License-Identifier: Apache-2.0
// ckptio verify: is a file whole? If not, what is damaged and what can still be read.
#pragma once

#include <string>
#include <vector>

#include "cli/console.h"

namespace ckptio::cli {

struct VerifyOptions {
  std::vector<std::string> files;
  bool weights_only = false;
};

// Every file is looked at. kOk if all are whole, else kDifferent for a damaged one, or the code of the first that could
// not be read at all.
int verify(const VerifyOptions& options, Console& console);

}  // namespace ckptio::cli
