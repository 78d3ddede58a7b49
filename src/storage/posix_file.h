// SPDX-License-Identifier: Apache-2.0
// The system's file calls as the rest of storage/ wants them: descriptors that close themselves, interrupted and
// partial calls continued, failures thrown as IoError with the path and the errno.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ckptio::detail {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int release();

 private:
  int fd_;
};

// Repeats a call that a signal interrupted. Not for close(), which has closed the descriptor even then.
template <typename Call>
auto retry_interrupted(Call call) -> decltype(call()) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// Throws IoError "cannot <action> '<path>': <what errno means>".
[[noreturn]] void throw_io_error(const std::string& action, const std::string& path, int error_number);

// Opens a folder to list it, to flush it and to name files relative to it. -1 and errno on failure.
FileDescriptor open_folder(const std::string& path);

// Makes `path` and its missing parents. `durable`: each new name is on the disk when this returns.
void make_folders(const std::string& path, bool durable);

// Writes all of it, at the descriptor's position.
void write_fully(int fd, const void* data, std::size_t n_bytes, const std::string& path);

// The same from `offset` of the file on; the descriptor's position stays. Several threads may at once.
void write_fully_at(int fd, std::uint64_t offset, const void* data, std::size_t n_bytes, const std::string& path);

// Has the file system find room for `n_bytes` bytes; where it cannot tell, nothing happens. The file's size stays.
void reserve_room(int fd, std::uint64_t n_bytes, const std::string& path);

// Reads up to `n_bytes` at `offset`; returns fewer only at the end of the file.
std::size_t read_fully(int fd, std::uint64_t offset, void* destination, std::size_t n_bytes, const std::string& path);

// Has the system begin to write these bytes of the file to the disk, if it is willing to, and waits for nothing.
void start_flush(int fd, std::uint64_t offset, std::uint64_t n_bytes) noexcept;

// Waits until the file's bytes are on the disk.
void sync_file(int fd, const std::string& path);

// Waits until the names in the folder are on the disk. Returns 0 or an errno; a file system that cannot do this is 0.
int sync_folder(int fd);

// Has close() report what it has to report (NFS and quotas refuse bytes that late) while `fd` and its lock stay open.
void report_close_errors(int fd, const std::string& path);

// Names in an open folder except `.` and `..`, in no order. False and errno on failure.
bool read_names(int folder_fd, std::vector<std::string>& names);

// Deletes what is called `name` in the folder, with all below it. Never follows links. Nothing there is not an error;
// that others delete the same at the same time is none either. `path` is for messages.
void remove_tree(int folder_fd, const std::string& name, const std::string& path);

}  // namespace ckptio::detail
