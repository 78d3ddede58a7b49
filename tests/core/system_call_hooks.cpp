// SPDX-License-Identifier: Apache-2.0
#include "core/system_call_hooks.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace ckptio::test {
namespace {

SystemCallHook::Function* installed = nullptr;
std::size_t max_write_bytes = SIZE_MAX;
thread_local bool inside_hook = false;

// 0 to go on; otherwise errno is set.
int before(const char* call) {
  if (installed == nullptr || inside_hook) return 0;
  inside_hook = true;
  const int error = (*installed)(call);
  inside_hook = false;
  if (error != 0) errno = error;
  return error;
}

}  // namespace

SystemCallHook::SystemCallHook(Function hook) { installed = new Function(std::move(hook)); }
SystemCallHook::~SystemCallHook() {
  delete installed;
  installed = nullptr;
}
ShortWrites::ShortWrites(std::size_t n_bytes) { max_write_bytes = n_bytes; }
ShortWrites::~ShortWrites() { max_write_bytes = SIZE_MAX; }

}  // namespace ckptio::test

using ckptio::test::before;

extern "C" {

ssize_t write(int fd, const void* data, size_t n_bytes) {
  if (fd > 2) {
    if (before("write") != 0) return -1;
    n_bytes = std::min(n_bytes, ckptio::test::max_write_bytes);
  }
  return ::syscall(SYS_write, fd, data, n_bytes);
}

// As glibc declares it where off_t has 64 bits anyway.
ssize_t pwrite(int fd, const void* data, size_t n_bytes, off_t offset) {
  if (before("pwrite") != 0) return -1;
  n_bytes = std::min(n_bytes, ckptio::test::max_write_bytes);
  return ::syscall(SYS_pwrite64, fd, data, n_bytes, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t n_bytes) {
  return before("fallocate") != 0 ? -1 : static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, n_bytes));
}

int fsync(int fd) { return before("fsync") != 0 ? -1 : static_cast<int>(::syscall(SYS_fsync, fd)); }

int flock(int fd, int operation) noexcept {
  return before("flock") != 0 ? -1 : static_cast<int>(::syscall(SYS_flock, fd, operation));
}

int mkdir(const char* path, mode_t mode) noexcept {
  return before("mkdir") != 0 ? -1 : static_cast<int>(::syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

int unlinkat(int folder_fd, const char* name, int flags) noexcept {
  return before("unlinkat") != 0 ? -1 : static_cast<int>(::syscall(SYS_unlinkat, folder_fd, name, flags));
}

int renameat(int old_fd, const char* old_name, int new_fd, const char* new_name) noexcept {
  if (before("renameat") != 0) return -1;
  return static_cast<int>(::syscall(SYS_renameat, old_fd, old_name, new_fd, new_name));
}

int symlinkat(const char* target, int folder_fd, const char* name) noexcept {
  return before("symlinkat") != 0 ? -1 : static_cast<int>(::syscall(SYS_symlinkat, target, folder_fd, name));
}

int close(int fd) {
  // The descriptor is gone even where close() reports an error.
  const int error = fd > 2 ? before("close") : 0;
  const int result = static_cast<int>(::syscall(SYS_close, fd));
  if (error != 0) errno = error;
  return error != 0 ? -1 : result;
}

}  // extern "C"
