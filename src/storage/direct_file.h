// SPDX-License-Identifier: Apache-2.0
// DirectFile: a file past the page cache (O_DIRECT), where the system and the file system can that.
//
// Memory, offsets and sizes are multiples of kDirectBlockBytes. What the file system refuses after all is left to the
// caller, who goes through the page cache: the kernel keeps both views of a file the same.
// Threads: all but open() from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "storage/posix_file.h"

namespace ckptio::detail {

// Enough for every disk in use; some ask for 512 only.
constexpr std::size_t kDirectBlockBytes = 4096;

class DirectFile {
 public:
  // Nothing of it works.
  DirectFile() = default;
  // The file behind `fd`, whatever its name is by now. `flags`: O_RDONLY or O_WRONLY.
  static DirectFile open(int fd, int flags);

  bool is_open() const { return fd_.is_open(); }
  // Both return how many bytes they moved, whole blocks; fewer where the rest is refused, or behind the file's end.
  // IoError for any other trouble.
  std::size_t write_at(std::uint64_t offset, const void* data, std::size_t n_bytes, const std::string& path) const;
  std::size_t read_at(std::uint64_t offset, void* destination, std::size_t n_bytes, const std::string& path) const;

 private:
  explicit DirectFile(FileDescriptor fd) : fd_(std::move(fd)) {}
  FileDescriptor fd_;
};

}  // namespace ckptio::detail
