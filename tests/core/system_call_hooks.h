// SPDX-License-Identifier: Apache-2.0
// Lets a test stand between LocalStorage and the kernel, without a hook in the library: this executable defines
// write(), fsync() and others itself, which come before libc's. Linux only.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace ckptio::test {

// Before each call of write, pwrite, fallocate, fsync, renameat, unlinkat, symlinkat, flock, mkdir and close (of
// descriptors above 2), of any thread, while this object lives. Returns 0 to let it happen or an errno for it to fail
// with. Calls made inside the hook pass unseen. At most one object at a time.
class SystemCallHook {
 public:
  using Function = std::function<int(const std::string& call)>;
  explicit SystemCallHook(Function hook);
  ~SystemCallHook();
  SystemCallHook(const SystemCallHook&) = delete;
};

// While it lives, write() and pwrite() take at most this many bytes at a time.
class ShortWrites {
 public:
  explicit ShortWrites(std::size_t n_bytes);
  ~ShortWrites();
  ShortWrites(const ShortWrites&) = delete;
};

}  // namespace ckptio::test
