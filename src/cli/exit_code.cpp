// SPDX-License-Identifier: Apache-2.0
#include "cli/exit_code.h"

#include <cstdio>
#include <new>
#include <string>

#include "cli/text.h"

namespace ckptio::cli {
namespace {

// Messages list many things at most; a line that fills the screen helps no one.
constexpr std::size_t kMaxMessage = 2000;

int code_of(const std::exception& error) {
  if (dynamic_cast<const UsageError*>(&error) != nullptr) return kUsage;
  if (dynamic_cast<const NotFoundError*>(&error) != nullptr) return kNotFound;
  if (dynamic_cast<const CorruptError*>(&error) != nullptr) return kCorrupt;
  if (dynamic_cast<const UnsafeError*>(&error) != nullptr) return kUnsafe;
  if (dynamic_cast<const UnsupportedError*>(&error) != nullptr) return kUnsupported;
  if (dynamic_cast<const IoError*>(&error) != nullptr) return kIo;
  return kOther;
}

// Messages of several lines become one.
std::string one_line(const std::string& message) {
  std::string line;
  for (const char c : message) {
    const bool blank = c == '\n' || c == ' ';
    if (blank && (line.empty() || line.back() == ' ')) continue;
    line += blank ? ' ' : c;
  }
  while (line.ends_with(' ')) line.pop_back();
  return printable(line, kMaxMessage);
}

}  // namespace

int report(const std::exception& error) {
  const bool no_memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
  const std::string message = no_memory ? "out of memory" : one_line(error.what());
  std::fprintf(stderr, "ckptio: %s\n", message.c_str());
  return code_of(error);
}

}  // namespace ckptio::cli
