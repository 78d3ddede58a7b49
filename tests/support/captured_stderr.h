// SPDX-License-Identifier: Apache-2.0
// What is written to stderr while this lives.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <string>

namespace ckptio::test {

class CapturedStderr {
 public:
  CapturedStderr() : file_(std::tmpfile()), before_(::dup(STDERR_FILENO)) {
    std::fflush(stderr);
    ::dup2(::fileno(file_), STDERR_FILENO);
  }
  CapturedStderr(const CapturedStderr&) = delete;
  CapturedStderr& operator=(const CapturedStderr&) = delete;
  ~CapturedStderr() {
    std::fflush(stderr);
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
    std::fclose(file_);
  }

  std::string text() const {
    std::fflush(stderr);
    std::string text(1 << 16, '\0');
    const ssize_t n = ::pread(::fileno(file_), text.data(), text.size(), 0);
    text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return text;
  }

 private:
  std::FILE* file_;
  int before_;
};

}  // namespace ckptio::test
