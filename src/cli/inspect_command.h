// SPDX-License-Identifier: Apache-2.0
// ckptio inspect: what a checkpoint file holds, as a tree or as JSON.
#pragma once

#include <string>

#include "cli/console.h"

namespace ckptio::cli {

struct InspectOptions {
  std::string file;
  bool json = false;
  bool values = false;
  bool weights_only = false;
};

// Returns an ExitCode, or throws.
int inspect(const InspectOptions& options, Console& console);

}  // namespace ckptio::cli
