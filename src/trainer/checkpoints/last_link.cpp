// SPDX-License-Identifier: Apache-2.0
// How `last` is moved, and what a crash leaves.
//
// 1. A link, or a copy, is made beside it under a temporary name. Killed: `last` as it was, and that name, which the
//    next move of this link takes over.
// 2. It is renamed over `last`. A folder in the way, over which nothing can be renamed, changes names with it in one
//    step; where the system has no such step, the folder is renamed to another temporary name first, and a kill right
//    there leaves no `last`.
// 3. The parent folder is flushed, so that a power cut does not bring back a link to what is removed next. A folder
//    that was in the way is deleted.
#include "trainer/checkpoints/last_link.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <filesystem>

#include "ckptio/error.h"
#include "storage/local_path.h"
#include "storage/posix_file.h"
#include "storage/temp_file.h"
#include "trainer/checkpoints/checkpoint_folder.h"

namespace ckptio::detail {
namespace {

namespace fs = std::filesystem;

// Takes part in the rules of temp_file.h, where the numbers are a process and a count; there is no process 0.
std::string temp_name_for(const std::string& name) { return "." + name + ".0.0.ckptio-tmp"; }

void flush_tree(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    for (const auto& entry : fs::directory_iterator(path, error)) flush_tree(entry.path());
    const FileDescriptor folder = open_folder(path.string());
    if (folder.is_open()) sync_folder(folder.get());
  } else {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.is_open()) sync_file(file.get(), path.string());
  }
}

void copy_to(const std::string& target, const fs::path& copy, const std::string& link) {
  std::error_code error;
  fs::copy(target, copy, fs::copy_options::recursive, error);
  if (error) throw_io_error("copy '" + target + "' to", link, error.value());
  flush_tree(copy);
}

// False where the file system or the system can't.
bool exchange(int folder_fd, const std::string& a, const std::string& b) {
#if defined(RENAME_EXCHANGE)
  return ::renameat2(folder_fd, a.c_str(), folder_fd, b.c_str(), RENAME_EXCHANGE) == 0;
#else
  return (void)folder_fd, (void)a, (void)b, false;
#endif
}

void swap_in(int folder_fd, const std::string& temp, const LocalPath& link) {
  const auto rename = [&] { return ::renameat(folder_fd, temp.c_str(), folder_fd, link.name.c_str()) == 0; };
  if (rename()) return;
  const bool folder_in_the_way = errno == EISDIR || errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR;
  if (!folder_in_the_way) throw_io_error("replace", link.text, errno);
  if (exchange(folder_fd, temp, link.name)) return remove_tree(folder_fd, temp, link.folder + "/" + temp);
  const std::string aside = move_folder_aside(folder_fd, link.name, link.text);
  if (!rename()) throw_io_error("replace", link.text, errno);
  if (!aside.empty()) remove_tree(folder_fd, aside, link.folder + "/" + aside);
}

}  // namespace

void point_link(const std::string& link, const std::string& target) {
  const LocalPath at = parse_local_path(link);
  const std::string to = parse_local_path(target).text;
  if (fs::path(at.text).lexically_normal() == fs::path(to).lexically_normal()) return;
  if (!is_there(target)) {
    throw NotFoundError("cannot link '" + link + "' to '" + target + "': no such file; `save_last=\"link\"` needs a " +
                        "plugin that keeps a checkpoint as the file or folder of its path");
  }
  make_folders(at.folder, true);
  const FileDescriptor folder_fd = open_folder(at.folder);
  if (!folder_fd.is_open()) throw_io_error("link", link, errno);
  const std::string temp = temp_name_for(at.name);
  remove_tree(folder_fd.get(), temp, at.folder + "/" + temp);
  const std::string relative = name_in(at.folder, to);
  if (::symlinkat(relative.c_str(), folder_fd.get(), temp.c_str()) != 0) {
    copy_to(to, fs::path(at.folder) / temp, link);
  }
  swap_in(folder_fd.get(), temp, at);
  if (const int error = sync_folder(folder_fd.get()); error != 0) throw_io_error("flush the folder of", link, error);
}

}  // namespace ckptio::detail
