// SPDX-License-Identifier: Apache-2.0
// The exit codes of the tool. They are stable; `ckptio --help` lists them.
#pragma once

#include <exception>

#include "ckptio/error.h"

namespace ckptio::cli {

enum ExitCode : int {
  kOk = 0,
  kDifferent = 1,  // diff: the files differ; verify: a file is damaged
  kUsage = 2,
  kNotFound = 3,
  kCorrupt = 4,
  kUnsafe = 5,
  kUnsupported = 6,
  kIo = 7,
  kOther = 8,  // values that the other format cannot hold, no memory, ...
};

// Arguments that do not go together.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Prints an error as one line, "ckptio: ...", on standard error, and returns its exit code.
int report(const std::exception& error);

}  // namespace ckptio::cli
