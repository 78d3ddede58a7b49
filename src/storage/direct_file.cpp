// SPDX-License-Identifier: Apache-2.0
#include "storage/direct_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace ckptio::detail {

namespace {

// Calls `move_some(n_done)` until all is moved, or it moves no whole block.
template <class Move>
std::size_t move_blocks(std::size_t n_bytes, const char* action, const std::string& path, Move move_some) {
  std::size_t n_done = 0;
  while (n_done < n_bytes) {
    const ssize_t n_now = retry_interrupted([&] { return move_some(n_done); });
    if (n_now < 0 && errno != EINVAL) throw_io_error(action, path, errno);
    if (n_now < static_cast<ssize_t>(kDirectBlockBytes)) break;
    n_done += static_cast<std::size_t>(n_now) / kDirectBlockBytes * kDirectBlockBytes;
  }
  return n_done;
}

}  // namespace

DirectFile DirectFile::open([[maybe_unused]] int fd, [[maybe_unused]] int flags) {
#if defined(__linux__) && defined(O_DIRECT)
  const std::string same = "/proc/self/fd/" + std::to_string(fd);
  return DirectFile(FileDescriptor(::open(same.c_str(), flags | O_DIRECT | O_CLOEXEC)));
#else
  return {};
#endif
}

std::size_t DirectFile::write_at(std::uint64_t offset, const void* data, std::size_t n_bytes,
                                 const std::string& path) const {
  return move_blocks(n_bytes, "write", path, [&](std::size_t n_done) {
    return ::pwrite(fd_.get(), static_cast<const char*>(data) + n_done, n_bytes - n_done,
                    static_cast<off_t>(offset + n_done));
  });
}

std::size_t DirectFile::read_at(std::uint64_t offset, void* destination, std::size_t n_bytes,
                                const std::string& path) const {
  return move_blocks(n_bytes, "read", path, [&](std::size_t n_done) {
    return ::pread(fd_.get(), static_cast<char*>(destination) + n_done, n_bytes - n_done,
                   static_cast<off_t>(offset + n_done));
  });
}

}  // namespace ckptio::detail
