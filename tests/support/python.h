// SPDX-License-Identifier: Apache-2.0
// Runs scripts of an interop test with the Python of the build's own environment.
#pragma once

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "support/catch.h"

namespace ckptio::test {

// CKPTIO_PYTHON names the interpreter. Without it the test says so in a line that ctest counts as skipped, or as failed
// where interop is required, and is over.
inline bool has_python() {
  if (std::getenv("CKPTIO_PYTHON") != nullptr) return true;
  std::cout << "CKPTIO_SKIP: CKPTIO_PYTHON is not set\n";
  return false;
}

// Fails the test if the script does. Arguments must not hold single quotes.
inline void run_python(const std::string& script, const std::vector<std::string>& arguments) {
  std::string command = std::string("'") + std::getenv("CKPTIO_PYTHON") + "' '" + script + "'";
  for (const std::string& argument : arguments) command += " '" + argument + "'";
  INFO(command);
  REQUIRE(std::system(command.c_str()) == 0);
}

}  // namespace ckptio::test
