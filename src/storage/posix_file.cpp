// SPDX-License-Identifier: Apache-2.0
#include "storage/posix_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <system_error>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

// One call moves at most this much: Linux stops at 2 GiB - 4 KiB, macOS refuses more than 2 GiB - 1 with EINVAL.
constexpr std::size_t kMaxTransferBytes = std::size_t{1} << 30;

constexpr std::uint64_t kMaxOffset = std::numeric_limits<off_t>::max();

// Calls `write_some(next, n_wanted)` until all is written.
template <typename Write>
void write_all(const void* data, std::size_t n_bytes, const std::string& path, Write write_some) {
  const char* next = static_cast<const char*>(data);
  while (n_bytes > 0) {
    const std::size_t n_wanted = std::min(n_bytes, kMaxTransferBytes);
    const ssize_t n_written = retry_interrupted([&] { return write_some(next, n_wanted); });
    if (n_written < 0) throw_io_error("write", path, errno);
    // POSIX leaves room for it; to go on would be an endless loop.
    if (n_written == 0) throw_io_error("write", path, EIO);
    next += n_written;
    n_bytes -= static_cast<std::size_t>(n_written);
  }
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.release();
  }
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

int FileDescriptor::release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

void throw_io_error(const std::string& action, const std::string& path, int error_number) {
  throw IoError("cannot " + action + " '" + path + "': " + std::generic_category().message(error_number), error_number);
}

FileDescriptor open_folder(const std::string& path) {
  return FileDescriptor(retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
}

void make_folders(const std::string& path, bool durable) {
  struct stat status {};
  // Looked at first: mkdir() of a folder that exists fails with EROFS or EACCES where the parent refuses writing.
  if (::stat(path.c_str(), &status) == 0) {
    if (!S_ISDIR(status.st_mode)) throw_io_error("make folder", path, ENOTDIR);
    return;
  }
  if (errno != ENOENT) throw_io_error("make folder", path, errno);
  const std::string parent = parent_of(path);
  make_folders(parent, durable);
  // Another process may make the same folder now. Its name is flushed by us too, for the other may not have come so
  // far when we report our file as safe.
  if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) throw_io_error("make folder", path, errno);
  if (!durable) return;
  const FileDescriptor parent_fd = open_folder(parent);
  if (!parent_fd.is_open()) throw_io_error("flush folder", parent, errno);
  if (const int error = sync_folder(parent_fd.get()); error != 0) throw_io_error("flush folder", parent, error);
}

void write_fully(int fd, const void* data, std::size_t n_bytes, const std::string& path) {
  write_all(data, n_bytes, path, [&](const char* next, std::size_t n_wanted) { return ::write(fd, next, n_wanted); });
}

void write_fully_at(int fd, std::uint64_t offset, const void* data, std::size_t n_bytes, const std::string& path) {
  if (offset > kMaxOffset || n_bytes > kMaxOffset - offset) throw_io_error("write", path, EFBIG);
  const char* const begin = static_cast<const char*>(data);
  write_all(data, n_bytes, path, [&](const char* next, std::size_t n_wanted) {
    return ::pwrite(fd, next, n_wanted, static_cast<off_t>(offset + static_cast<std::uint64_t>(next - begin)));
  });
}

void reserve_room(int fd, std::uint64_t n_bytes, const std::string& path) {
#ifdef __linux__
  if (n_bytes == 0 || n_bytes > kMaxOffset) return;
  // Not posix_fallocate(), which where the file system cannot writes every block.
  const auto call = [&] { return ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(n_bytes)); };
  if (retry_interrupted(call) == 0) return;
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) throw_io_error("write", path, errno);
#else
  (void)fd, (void)n_bytes, (void)path;
#endif
}

std::size_t read_fully(int fd, std::uint64_t offset, void* destination, std::size_t n_bytes, const std::string& path) {
  std::size_t n_done = 0;
  while (n_done < n_bytes) {
    const std::size_t n_wanted = std::min(n_bytes - n_done, kMaxTransferBytes);
    const ssize_t n_read = retry_interrupted([&] {
      return ::pread(fd, static_cast<char*>(destination) + n_done, n_wanted, static_cast<off_t>(offset + n_done));
    });
    if (n_read < 0) throw_io_error("read", path, errno);
    if (n_read == 0) break;
    n_done += static_cast<std::size_t>(n_read);
  }
  return n_done;
}

void start_flush(int fd, std::uint64_t offset, std::uint64_t n_bytes) noexcept {
#ifdef __linux__
  // What goes wrong on the way is kept for sync_file().
  (void)::sync_file_range(fd, static_cast<off64_t>(offset), static_cast<off64_t>(n_bytes), SYNC_FILE_RANGE_WRITE);
#else
  (void)fd, (void)offset, (void)n_bytes;
#endif
}

void sync_file(int fd, const std::string& path) {
#ifdef F_FULLFSYNC
  // On macOS fsync() hands the bytes to the drive, which may keep them in its cache over a power cut; this empties
  // the cache. File systems that do not know it (network, FAT) fall through to fsync().
  if (retry_interrupted([&] { return ::fcntl(fd, F_FULLFSYNC); }) == 0) return;
#endif
  // Never repeated after an error: the kernel may have dropped the pages, and a second call would then succeed.
  if (retry_interrupted([&] { return ::fsync(fd); }) != 0) throw_io_error("write", path, errno);
}

int sync_folder(int fd) {
  if (retry_interrupted([&] { return ::fsync(fd); }) == 0) return 0;
  // Some network and FUSE file systems have no flush for folders; they order names by themselves or not at all.
  return errno == EINVAL || errno == ENOTSUP ? 0 : errno;
}

void report_close_errors(int fd, const std::string& path) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw_io_error("write", path, errno);
  if (::close(copy) != 0 && errno != EINTR) throw_io_error("write", path, errno);
}

bool read_names(int folder_fd, std::vector<std::string>& names) {
  // A stream has a position and takes its descriptor along, hence one of its own.
  FileDescriptor own(::openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own.is_open()) return false;
  DIR* stream = ::fdopendir(own.get());
  if (stream == nullptr) return false;
  own.release();
  errno = 0;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
    errno = 0;
  }
  const int error = errno;
  ::closedir(stream);
  errno = error;
  return error == 0;
}

void remove_tree(int folder_fd, const std::string& name, const std::string& path) {
  struct stat status {};
  if (::fstatat(folder_fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return;
    throw_io_error("remove", path, errno);
  }
  const bool is_folder = S_ISDIR(status.st_mode);
  if (is_folder) {
    const FileDescriptor own(::openat(folder_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!own.is_open() && errno == ENOENT) return;
    std::vector<std::string> children;
    if (!own.is_open() || !read_names(own.get(), children)) throw_io_error("remove", path, errno);
    for (const auto& child : children) remove_tree(own.get(), child, path + "/" + child);
  }
  if (::unlinkat(folder_fd, name.c_str(), is_folder ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT) {
    throw_io_error("remove", path, errno);
  }
}

}  // namespace ckptio::detail
