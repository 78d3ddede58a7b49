// SPDX-License-Identifier: Apache-2.0
#include "storage/temp_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <vector>

namespace ckptio::detail {
namespace {

constexpr std::string_view kSuffix = ".ckptio-tmp";

// `.<pid>.<n>.ckptio-tmp` with the largest numbers there are: 10 and 20 digits.
constexpr std::size_t kMaxTailLength = 1 + 10 + 1 + 20 + kSuffix.size();

// Other writers and cleaners can take away a name a few times; so often only a file system gone wrong can.
constexpr int kMaxAttempts = 1000;

std::size_t longest_name(int folder_fd) {
  const long limit = ::fpathconf(folder_fd, _PC_NAME_MAX);
  return limit > 0 ? static_cast<std::size_t>(limit) : 255;
}

// FNV-1a, to tell long names apart whose beginnings are equal.
std::uint64_t hash_of(const std::string& name) {
  std::uint64_t hash = 14695981039346656037u;
  for (const unsigned char c : name) hash = (hash ^ c) * 1099511628211u;
  return hash;
}

// The part of a temporary name that says whose it is: `.<target>`, or its beginning and a hash if that is too long.
std::string stem_of(const std::string& target, std::size_t name_max) {
  if (1 + target.size() + kMaxTailLength <= name_max) return "." + target;
  char hash[18];
  std::snprintf(hash, sizeof hash, "~%016llx", static_cast<unsigned long long>(hash_of(target)));
  const std::size_t n_around = 1 + 17 + kMaxTailLength;
  std::size_t n_kept = name_max > n_around ? std::min(name_max - n_around, target.size()) : 0;
  // Not in the middle of a UTF-8 character: macOS refuses such names.
  while (n_kept > 0 && n_kept < target.size() && (static_cast<unsigned char>(target[n_kept]) & 0xC0) == 0x80) --n_kept;
  return "." + target.substr(0, n_kept) + hash;
}

// Takes `.<digits>` from the end; false if it is not there.
bool strip_number(std::string_view& name) {
  const std::size_t end = name.size();
  std::size_t begin = end;
  while (begin > 0 && name[begin - 1] >= '0' && name[begin - 1] <= '9') --begin;
  if (begin == end || begin == 0 || name[begin - 1] != '.') return false;
  name.remove_suffix(end - begin + 1);
  return true;
}

// The stem of a temporary name, empty if `name` is not one. Read from the end, so that the stem of `a.1.2` is not
// mistaken for a stem of `a`.
std::string_view stem_in(std::string_view name) {
  if (name.size() <= kSuffix.size() || name.substr(name.size() - kSuffix.size()) != kSuffix) return {};
  name.remove_suffix(kSuffix.size());
  if (!strip_number(name) || !strip_number(name)) return {};
  return name.size() >= 2 && name[0] == '.' ? name : std::string_view{};
}

std::string next_temp_name(int folder_fd, const std::string& target) {
  static std::atomic<std::uint64_t> counter{0};
  return stem_of(target, longest_name(folder_fd)) + "." + std::to_string(::getpid()) + "." +
         std::to_string(counter.fetch_add(1)) + std::string(kSuffix);
}

enum class Lock { held, busy, unsupported };

Lock try_lock(int fd) {
  if (retry_interrupted([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) == 0) return Lock::held;
  return errno == EWOULDBLOCK ? Lock::busy : Lock::unsupported;
}

// True if `name` in the folder is the open file, not another one of that name, and not nothing.
bool still_named(int folder_fd, const std::string& name, int fd) {
  struct stat of_name {
  }, of_file{};
  return ::fstatat(folder_fd, name.c_str(), &of_name, AT_SYMLINK_NOFOLLOW) == 0 && ::fstat(fd, &of_file) == 0 &&
         of_name.st_dev == of_file.st_dev && of_name.st_ino == of_file.st_ino;
}

void clear_dead_file(int folder_fd, const std::string& name) {
  // For writing, since NFS grants an exclusive lock on nothing else. Of another user's file this may be refused.
  const FileDescriptor fd(::openat(folder_fd, name.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.is_open() || try_lock(fd.get()) != Lock::held) return;
  // Its writer may have renamed it onto the target meanwhile.
  if (still_named(folder_fd, name, fd.get())) ::unlinkat(folder_fd, name.c_str(), 0);
}

}  // namespace

bool is_temp_name(const std::string& name) { return !stem_in(name).empty(); }

TempFile create_temp_file(int folder_fd, const std::string& target, mode_t mode, const std::string& path) {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    TempFile temp;
    temp.name = next_temp_name(folder_fd, target);
    temp.fd = FileDescriptor(retry_interrupted([&] {
      return ::openat(folder_fd, temp.name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    }));
    if (!temp.fd.is_open()) {
      if (errno == EEXIST) continue;
      throw_io_error("write", path, errno);
    }
    // Busy: a cleaner took it for a dead one and is about to delete it. Unsupported: then no cleaner deletes anything.
    const Lock lock = try_lock(temp.fd.get());
    if (lock == Lock::busy || !still_named(folder_fd, temp.name, temp.fd.get())) continue;
    return temp;
  }
  throw_io_error("write", path, EEXIST);
}

std::string move_folder_aside(int folder_fd, const std::string& target, const std::string& path) {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const std::string name = next_temp_name(folder_fd, target);
    if (::renameat(folder_fd, target.c_str(), folder_fd, name.c_str()) == 0) return name;
    if (errno == ENOENT) return {};
    // The name is taken, by a file or by a folder with something in it.
    if (errno != ENOTDIR && errno != ENOTEMPTY && errno != EEXIST) throw_io_error("remove", path, errno);
  }
  throw_io_error("remove", path, EEXIST);
}

void clear_litter(int folder_fd, const std::string& target) noexcept try {
  std::vector<std::string> names;
  if (!read_names(folder_fd, names)) return;
  const std::string stem = stem_of(target, longest_name(folder_fd));
  for (const auto& name : names) {
    if (stem_in(name) != stem) continue;
    struct stat status {};
    if (::fstatat(folder_fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (S_ISREG(status.st_mode)) clear_dead_file(folder_fd, name);
    if (S_ISDIR(status.st_mode)) remove_tree(folder_fd, name, name);
  }
} catch (...) {
  // What could not be deleted now is met again by the next writer of this target.
}

}  // namespace ckptio::detail
