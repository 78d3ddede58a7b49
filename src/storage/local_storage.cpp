// SPDX-License-Identifier: Apache-2.0
// How LocalStorage saves a file, and what each point of a crash leaves.
//
// 0. create(): missing parent folders are made, and each new folder's name is flushed. Litter of dead writers of this
//    target is deleted. A temporary file is made beside the target and locked (temp_file.h says why both).
//      Killed here or during append(): the old file, and a temporary file without a lock.
// 1. commit(): what is buffered is written, the file is flushed to the disk (fsync, F_FULLFSYNC on macOS), and
//    close() has had its chance to report an error.
//      Killed: as before. Power cut: as before; the temporary file may be short or gone.
// 2. The temporary file is renamed over the target. The flush came first because the disk may otherwise learn of the
//    name before it has the bytes, and a power cut would leave an empty file in the place of the old one.
//      Killed: the new file, no litter. Power cut: the old file or the new one, whole; with the old one perhaps also
//      the temporary name.
// 3. The folder is flushed, so that the new name is on the disk.
//      Killed or power cut after this: the new file.
// An error in 0 to 2 deletes the temporary file and leaves the old one. An error in 3 is thrown too, but the new file
// is already in place; the message says so. With `durable` off, the flushes are left out: a killed process still
// leaves the same, a power cut may not.
//
// How it removes a folder: 1. litter is deleted; 2. the folder is renamed to a temporary name; 3. the parent folder is
// flushed (or else a power cut may leave the old name on a folder with half its files); 4. what lies under the
// temporary name is deleted. Killed before 2: the folder, whole. After 2: no folder, and litter which the next
// create() or remove() of that path deletes. Nothing waits for the disk after 4: what comes back then is litter.
#include "ckptio/storage/local_storage.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>

#include "ckptio/error.h"
#include "storage/cached_pages.h"
#include "storage/direct_file.h"
#include "storage/local_path.h"
#include "storage/posix_file.h"
#include "storage/temp_file.h"

namespace ckptio {
namespace {

using detail::DirectFile;
using detail::FileDescriptor;
using detail::LocalPath;
using detail::throw_io_error;

// Small appends are collected up to this size; larger ones go to the system as they are.
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

// What is to be durable begins its way to the disk each time that so much was written, beside what is written next: the
// flush at the end then waits for the rest alone. 512 KiB are slower; so is to stay some of these behind the writers.
constexpr std::uint64_t kFlushBytes = std::uint64_t{4} << 20;

// Smaller files are written, and fewer bytes read, through the page cache: the disk's answer takes longer than a copy.
constexpr std::uint64_t kLeastDirectFileBytes = std::uint64_t{4} << 20;
constexpr std::size_t kLeastDirectReadBytes = std::size_t{128} << 10;

[[noreturn]] void throw_short(const std::string& path, std::uint64_t offset, std::uint64_t n_bytes,
                              std::uint64_t n_found, std::uint64_t file_size) {
  throw IoError("cannot read '" + path + "': at byte " + std::to_string(offset) + " expected " +
                std::to_string(n_bytes) + " bytes, found " + std::to_string(n_found) + " (the file has " +
                std::to_string(file_size) + ")");
}

class LocalWritableFile final : public WritableFile {
 public:
  LocalWritableFile(FileDescriptor folder_fd, detail::TempFile temp, LocalPath path, const LocalStorageOptions& options)
      : folder_fd_(std::move(folder_fd)),
        temp_(std::move(temp)),
        path_(std::move(path)),
        durable_(options.durable),
        direct_io_(options.durable && options.direct_io),
        owner_(::getpid()) {}

  ~LocalWritableFile() override {
    // A child process that came out of a fork() has a copy of this object, but the file is its parent's.
    if (!committed_ && ::getpid() == owner_) ::unlinkat(folder_fd_.get(), temp_.name.c_str(), 0);
  }

  void append(const void* data, std::size_t n_bytes) override {
    require_usable();
    if (end_ > 0) throw_both_ways();
    if (n_bytes == 0) return;
    usable_ = false;
    appended_ = true;
    if (buffer_.size() + n_bytes > kBufferBytes) flush_buffer();
    if (n_bytes >= kBufferBytes) {
      append_to_file(data, n_bytes);
    } else {
      buffer_.reserve(kBufferBytes);
      const auto* bytes = static_cast<const unsigned char*>(data);
      buffer_.insert(buffer_.end(), bytes, bytes + n_bytes);
    }
    usable_ = true;
  }

  bool can_write_at() const override { return true; }

  void write_at(std::uint64_t offset, const void* data, std::size_t n_bytes) override {
    write_range(offset, n_bytes, [&] { write_through_cache(offset, data, n_bytes); });
  }

  std::size_t direct_block_bytes() const override { return direct_.is_open() ? detail::kDirectBlockBytes : 0; }

  void write_direct_at(std::uint64_t offset, const void* data, std::size_t n_bytes) override {
    write_range(offset, n_bytes, [&] {
      const std::size_t n_direct = direct_.write_at(offset, data, n_bytes, path_.text);
      write_through_cache(offset + n_direct, static_cast<const char*>(data) + n_direct, n_bytes - n_direct);
    });
  }

  void reserve(std::uint64_t n_bytes) override {
    require_usable();
    usable_ = false;
    detail::reserve_room(temp_.fd.get(), n_bytes, path_.text);
    reserved_ = n_bytes;
    if (direct_io_ && n_bytes >= kLeastDirectFileBytes) direct_ = DirectFile::open(temp_.fd.get(), O_WRONLY);
    // File systems let several threads write past the cache at once only where the file does not grow.
    if (direct_.is_open() && ::ftruncate(temp_.fd.get(), static_cast<off_t>(n_bytes)) != 0) direct_ = DirectFile();
    usable_ = true;
  }

  void commit() override {
    require_usable();
    usable_ = false;
    flush_buffer();
    give_back_room();
    if (durable_) detail::sync_file(temp_.fd.get(), path_.text);
    detail::report_close_errors(temp_.fd.get(), path_.text);
    if (::renameat(folder_fd_.get(), temp_.name.c_str(), folder_fd_.get(), path_.name.c_str()) != 0) {
      throw_io_error("replace", path_.text, errno);
    }
    committed_ = true;
    const int error = durable_ ? detail::sync_folder(folder_fd_.get()) : 0;
    if (error != 0) throw_io_error("flush the folder of the new, complete", path_.text, error);
    temp_.fd = FileDescriptor();
  }

 private:
  void require_usable(bool in_write_at = false) const {
    if (!usable_ || (write_failed_ && !in_write_at))
      throw IoError("cannot write '" + path_.text + "': an earlier call failed or commit() was called");
  }

  [[noreturn]] void throw_both_ways() const {
    throw IoError("cannot write '" + path_.text + "': append() and write_at() of one file");
  }

  template <class Write>
  void write_range(std::uint64_t offset, std::size_t n_bytes, Write write) {
    require_usable(/*in_write_at=*/true);
    if (appended_) throw_both_ways();
    if (n_bytes == 0) return;
    try {
      write();
    } catch (...) {
      write_failed_ = true;  // the others go on: each tells the system's error, not that there was one
      throw;
    }
    std::uint64_t end = end_;
    while (end < offset + n_bytes && !end_.compare_exchange_weak(end, offset + n_bytes)) {
    }
  }

  void write_through_cache(std::uint64_t offset, const void* data, std::size_t n_bytes) {
    detail::write_fully_at(temp_.fd.get(), offset, data, n_bytes, path_.text);
    flush_behind(offset, offset + n_bytes);
  }

  // Blocks behind the end would stay the file's for as long as it lives.
  void give_back_room() {
    const std::uint64_t end = std::max<std::uint64_t>(end_, n_appended_);
    if (end >= reserved_) return;
    if (::ftruncate(temp_.fd.get(), static_cast<off_t>(end)) != 0 && direct_.is_open()) {
      throw_io_error("write", path_.text, errno);  // it was made longer than what was written
    }
  }

  void flush_buffer() {
    append_to_file(buffer_.data(), buffer_.size());
    buffer_.clear();
  }

  void append_to_file(const void* data, std::size_t n_bytes) {
    detail::write_fully(temp_.fd.get(), data, n_bytes, path_.text);
    flush_behind(n_appended_, n_appended_ + n_bytes);
    n_appended_ += n_bytes;
  }

  // Bytes from `begin` to `end` were written: writers go from front to back within each kFlushBytes of the file.
  void flush_behind(std::uint64_t begin, std::uint64_t end) const {
    const std::uint64_t from = begin / kFlushBytes * kFlushBytes, to = end / kFlushBytes * kFlushBytes;
    if (durable_ && from < to) detail::start_flush(temp_.fd.get(), from, to - from);
  }

  FileDescriptor folder_fd_;
  detail::TempFile temp_;
  LocalPath path_;
  bool durable_;
  bool direct_io_;
  pid_t owner_;
  DirectFile direct_;
  std::atomic<bool> usable_{true};  // false during a call, and for good once one has thrown
  std::atomic<bool> write_failed_{false};
  std::atomic<std::uint64_t> end_{0};  // of what write_at() wrote
  bool appended_ = false;
  std::uint64_t reserved_ = 0;
  std::uint64_t n_appended_ = 0;  // of them in the file
  bool committed_ = false;
  std::vector<unsigned char> buffer_;
};

class LocalRandomAccessFile final : public RandomAccessFile {
 public:
  LocalRandomAccessFile(FileDescriptor fd, std::string path, std::uint64_t size, bool direct_io)
      : fd_(std::move(fd)), path_(std::move(path)), size_(size), direct_io_(direct_io) {}

  std::uint64_t size() const override { return size_; }

  void read_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const override {
    if (offset > size_ || n_bytes > size_ - offset) {
      throw_short(path_, offset, n_bytes, offset > size_ ? 0 : size_ - offset, size_);
    }
    const std::size_t n_read = detail::read_fully(fd_.get(), offset, destination, n_bytes, path_);
    if (n_read < n_bytes) throw_short(path_, offset, n_bytes, n_read, offset + n_read);
  }

  void prefetch([[maybe_unused]] std::uint64_t offset, [[maybe_unused]] std::size_t n_bytes) const override {
#ifdef POSIX_FADV_WILLNEED
    ::posix_fadvise(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(n_bytes), POSIX_FADV_WILLNEED);
#endif
  }

  // Of bytes that are in the page cache, nothing is faster than a copy.
  std::size_t direct_block_bytes(std::uint64_t offset, std::size_t n_bytes) const override {
    if (!direct_io_ || n_bytes < kLeastDirectReadBytes || offset > size_ || n_bytes > size_ - offset) return 0;
    std::call_once(direct_once_, [this] {
      cached_ = detail::CachedPages::of(fd_.get(), size_);
      if (cached_) direct_ = DirectFile::open(fd_.get(), O_RDONLY);
    });
    return direct_.is_open() && !cached_->are_mostly_there(offset, n_bytes) ? detail::kDirectBlockBytes : 0;
  }

  void read_direct_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const override {
    const auto n_here = static_cast<std::size_t>(std::min<std::uint64_t>(n_bytes, size_ - std::min(offset, size_)));
    const std::size_t n_direct = direct_.read_at(offset, destination, n_bytes, path_);
    if (n_direct < n_here) read_at(offset + n_direct, static_cast<char*>(destination) + n_direct, n_here - n_direct);
  }

  // Null where there is nothing to map, or the file system cannot.
  std::shared_ptr<void> map() const override {
    const auto n_bytes = static_cast<std::size_t>(size_);
    if (n_bytes == 0 || n_bytes != size_) return nullptr;
    void* memory = ::mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd_.get(), 0);
    if (memory == MAP_FAILED) return nullptr;
    return {memory, [n_bytes](void* mapped) { ::munmap(mapped, n_bytes); }};
  }

 private:
  FileDescriptor fd_;
  std::string path_;
  std::uint64_t size_;
  bool direct_io_;
  mutable std::once_flag direct_once_;  // of what follows
  mutable std::optional<detail::CachedPages> cached_;
  mutable DirectFile direct_;
};

// Refuses a target that is no plain file. Returns the permissions of the regular file that will be replaced.
std::optional<mode_t> check_target(int folder_fd, const LocalPath& path) {
  struct stat status {};
  if (::fstatat(folder_fd, path.name.c_str(), &status, 0) == 0) {
    if (S_ISDIR(status.st_mode)) throw_io_error("write", path.text, EISDIR);
    // As root, a rename would replace /dev/null for the whole machine.
    if (!S_ISREG(status.st_mode)) throw IoError("cannot write '" + path.text + "': is not a regular file", EINVAL);
  } else if (errno != ENOENT && errno != ELOOP) {
    throw_io_error("write", path.text, errno);
  }
  const bool is_file = ::fstatat(folder_fd, path.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  if (!is_file || !S_ISREG(status.st_mode)) return std::nullopt;
  return status.st_mode & 0777;
}

// True for the errors that mean "there is no such file or folder".
bool means_absent(int error_number) { return error_number == ENOENT || error_number == ENOTDIR; }

}  // namespace

std::unique_ptr<WritableFile> LocalStorage::create(const std::string& path) {
  LocalPath local = detail::parse_local_path(path);
  if (local.text.empty()) throw_io_error("write", path, ENOENT);
  if (local.is_not_a_name() || local.trailing_slash) throw_io_error("write", path, EISDIR);
  if (detail::is_temp_name(local.name)) {
    throw ValueError("cannot write '" + path + "': names ending in '.<number>.<number>.ckptio-tmp' are reserved");
  }
  detail::make_folders(local.folder, options_.durable);
  FileDescriptor folder_fd = detail::open_folder(local.folder);
  if (!folder_fd.is_open()) throw_io_error("write", local.text, errno);
  const std::optional<mode_t> old_mode = check_target(folder_fd.get(), local);
  detail::clear_litter(folder_fd.get(), local.name);
  detail::TempFile temp = detail::create_temp_file(folder_fd.get(), local.name, old_mode.value_or(0666), local.text);
  // Beyond what the umask left. File systems without permissions refuse, and have none to keep.
  if (old_mode) (void)::fchmod(temp.fd.get(), *old_mode);
  return std::make_unique<LocalWritableFile>(std::move(folder_fd), std::move(temp), std::move(local), options_);
}

std::unique_ptr<RandomAccessFile> LocalStorage::open(const std::string& path) const {
  const LocalPath local = detail::parse_local_path(path);
  // O_NONBLOCK: opening a pipe would else wait for a writer. It means nothing for regular files.
  FileDescriptor fd(detail::retry_interrupted(
      [&] { return ::open(local.text.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC); }));
  if (!fd.is_open()) {
    if (means_absent(errno)) throw NotFoundError("cannot open '" + local.text + "': no such file");
    throw_io_error("open", local.text, errno);
  }
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) throw_io_error("open", local.text, errno);
  if (S_ISDIR(status.st_mode)) throw IoError("cannot open '" + local.text + "': is a folder", EISDIR);
  if (!S_ISREG(status.st_mode)) throw IoError("cannot open '" + local.text + "': is not a regular file", EINVAL);
  return std::make_unique<LocalRandomAccessFile>(std::move(fd), local.text, static_cast<std::uint64_t>(status.st_size),
                                                 options_.direct_io);
}

bool LocalStorage::exists(const std::string& path) const {
  const LocalPath local = detail::parse_local_path(path);
  struct stat status {};
  if (::stat(local.text.c_str(), &status) == 0) return true;
  if (means_absent(errno) || errno == ELOOP) return false;
  throw_io_error("look for", local.text, errno);
}

void LocalStorage::remove(const std::string& path) {
  const LocalPath local = detail::parse_local_path(path);
  if (local.text.empty()) return;
  if (local.is_not_a_name()) {
    throw ValueError("cannot remove '" + path + "': expected a path that ends in a name");
  }
  const FileDescriptor folder_fd = detail::open_folder(local.folder);
  if (!folder_fd.is_open()) {
    if (means_absent(errno)) return;
    throw_io_error("remove", local.text, errno);
  }
  detail::clear_litter(folder_fd.get(), local.name);
  struct stat status {};
  const bool found = ::fstatat(folder_fd.get(), local.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  if (!found && errno != ENOENT) throw_io_error("remove", local.text, errno);
  if (!found || !S_ISDIR(status.st_mode)) return detail::remove_tree(folder_fd.get(), local.name, local.text);
  const std::string aside = detail::move_folder_aside(folder_fd.get(), local.name, local.text);
  if (aside.empty()) return;
  if (const int error = options_.durable ? detail::sync_folder(folder_fd.get()) : 0; error != 0) {
    throw_io_error("remove", local.text, error);
  }
  detail::remove_tree(folder_fd.get(), aside, local.folder + "/" + aside);
}

std::vector<std::string> LocalStorage::list(const std::string& path) const {
  const LocalPath local = detail::parse_local_path(path);
  const FileDescriptor folder_fd = detail::open_folder(local.text);
  if (!folder_fd.is_open() && means_absent(errno)) return {};
  std::vector<std::string> names;
  if (!folder_fd.is_open() || !detail::read_names(folder_fd.get(), names)) throw_io_error("list", local.text, errno);
  names.erase(std::remove_if(names.begin(), names.end(), detail::is_temp_name), names.end());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace ckptio
