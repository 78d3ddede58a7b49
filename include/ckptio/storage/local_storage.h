// SPDX-License-Identifier: Apache-2.0
// LocalStorage: checkpoints in folders of this machine, or of a network file system that is mounted here.
//
// Serves plain paths and `file://` URIs (RFC 8089: host empty or `localhost`, %XX decoded); a URI of another scheme
// is an UnsupportedError. How a file is saved, step by step, and what a crash leaves: local_storage.cpp.
// It is not a lock: two writers of one path may work at once, and the last commit() wins whole.
//
// Names that end in `.<pid>.<n>.ckptio-tmp` are its own: list() hides them, create() refuses them as a target, and
// create() and remove() of a path clear those which dead writers of that same path left. What a living writer holds
// is never touched: every writer keeps an flock on its temporary file. Where the file system has no flock, nothing
// is cleared; where its locks do not reach other machines (NFS with `local_lock`), let one machine write a path.
//
// Threads: safe for use from several threads at once, see storage_backend.h. A fork is safe too: the child's copy of
// a WritableFile does not remove the parent's file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ckptio/storage/storage_backend.h"

namespace ckptio {

struct LocalStorageOptions {
  // True: commit() returns when the bytes and the name are on the disk, and survive a power cut. False: it returns
  // when other processes see them; a crash of the process loses nothing, a power cut may leave an empty file.
  bool durable = true;

  // True: large files that are to be durable, and what is read of files that are not in the page cache, go past it
  // (O_DIRECT) where the file system can that: the disk is kept busy, and nothing is pushed out of the cache. False:
  // all goes through the page cache: for files that several processes of one machine read.
  bool direct_io = true;
};

class LocalStorage final : public StorageBackend {
 public:
  explicit LocalStorage(LocalStorageOptions options = {}) : options_(options) {}

  // As StorageBackend says, and: a new file gets mode 0666 less the umask, as with open(2); one that replaces a
  // regular file gets its permissions (also of a file that is read-only: what counts is the folder). A symbolic link
  // at `path` is itself replaced: what it points to may be another checkpoint (Lightning's `save_last="link"`).
  // IoError: a folder, device or pipe at `path`, or a parent folder that is a file, unreadable or unwritable.
  // ValueError: a name that is reserved, see above. The parent folder is held from here on: to rename it or to change
  // the working folder does not redirect the file.
  std::unique_ptr<WritableFile> create(const std::string& path) override;

  // As StorageBackend says. IoError also for a pipe or a device, without waiting for it.
  std::unique_ptr<RandomAccessFile> open(const std::string& path) const override;

  // As StorageBackend says; a link that leads nowhere does not exist.
  bool exists(const std::string& path) const override;

  // As StorageBackend says. Links are removed, never followed. A folder disappears for readers at once, before the
  // first of its files is deleted. On IoError after that moment the rest lies under a temporary name, and a later
  // create() or remove() of `path` deletes it. ValueError for a path that ends in `.` or `..`, or is the root.
  void remove(const std::string& path) override;

  // As StorageBackend says; also empty where `path` is a file.
  std::vector<std::string> list(const std::string& path) const override;

 private:
  LocalStorageOptions options_;
};

}  // namespace ckptio
