// SPDX-License-Identifier: Apache-2.0
// Temporary names beside a target: how they are made, who owns them, and how those of dead writers are cleared.
//
// A name is `.<target>.<pid>.<n>.ckptio-tmp`. A file of such a name belongs to the process that holds an flock on it;
// one without a lock belongs to nobody and may be deleted by whoever locks it first. A folder of such a name is on its
// way out (see LocalStorage::remove), and everybody may help to delete it.
//
// Between open(O_CREAT) and flock() of a new file a cleaner may come by, lock it and delete it. So neither side trusts
// a lock alone: after locking, a writer looks whether the name still stands for its file and otherwise takes another
// name; a cleaner looks likewise before it deletes. Nobody deletes a name without holding the lock of its file, hence
// what was looked at stays true until the lock is given back. The process id only makes names differ; that it may be
// reused does no harm, for O_EXCL and the lock decide.
#pragma once

#include <sys/types.h>

#include <string>

#include "storage/posix_file.h"

namespace ckptio::detail {

// True for names of temporary files and folders, of any target.
bool is_temp_name(const std::string& name);

struct TempFile {
  FileDescriptor fd;  // open for writing and locked, as long as it is open
  std::string name;
};

// Makes an empty, locked file beside `target` in the folder. `mode` as in open(2). IoError, with `path` in it, where
// the folder refuses.
TempFile create_temp_file(int folder_fd, const std::string& target, mode_t mode, const std::string& path);

// Renames the folder `target` to a temporary name, which is returned; empty if it was gone already.
std::string move_folder_aside(int folder_fd, const std::string& target, const std::string& path);

// Deletes what dead writers and removers of `target` left. What cannot be deleted stays; there is no error.
void clear_litter(int folder_fd, const std::string& target) noexcept;

}  // namespace ckptio::detail
