// SPDX-License-Identifier: Apache-2.0
// Code that runs in a process of its own: to be killed, to lose its privileges, to run into limits.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>

namespace ckptio::test {

class ChildProcess {
 public:
  // Runs `work`, whose result is the exit code; 99 if it throws. No destructor of the parent's objects runs there.
  template <typename Work>
  explicit ChildProcess(Work work) : pid_(::fork()) {
    if (pid_ != 0) return;
    int code = 99;
    try {
      code = work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child process: %s\n", error.what());
    }
    ::_exit(code);
  }

  pid_t pid() const { return pid_; }

  // Waits for the end: the exit code, or minus the number of the signal that killed it.
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

// Lets two processes wait for each other: signal() in one ends wait() in the other.
class Gate {
 public:
  Gate() { ok_ = ::pipe(ends_) == 0; }
  Gate(const Gate&) = delete;
  ~Gate() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  void signal() { ok_ = ::write(ends_[1], "x", 1) == 1 && ok_; }
  void wait() {
    char byte;
    ok_ = ::read(ends_[0], &byte, 1) == 1 && ok_;
  }

 private:
  int ends_[2] = {-1, -1};
  bool ok_ = false;
};

}  // namespace ckptio::test
