// SPDX-License-Identifier: Apache-2.0
// MemoryStorage: checkpoints in the memory of this process, for tests and as the smallest complete StorageBackend to
// read before writing your own.
//
// A path is any string; `/` separates folders, which exist as long as there is a file in them. `a//b/`, `./a/b` and
// `a/b` are the same path, and a URI is nothing special. It is not a cache and writes nothing to a disk.
// Threads: safe for use from several threads at once. Files in use may outlive the MemoryStorage.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ckptio/storage/storage_backend.h"

namespace ckptio {

class MemoryStorage final : public StorageBackend {
 public:
  MemoryStorage();

  // As StorageBackend says. IoError also where a parent of `path` is a file. When memory runs out, append() throws
  // std::bad_alloc.
  std::unique_ptr<WritableFile> create(const std::string& path) override;

  // As StorageBackend says. The bytes are shared, not copied: they live until the last reader has gone.
  std::unique_ptr<RandomAccessFile> open(const std::string& path) const override;

  bool exists(const std::string& path) const override;
  void remove(const std::string& path) override;
  std::vector<std::string> list(const std::string& path) const override;

 private:
  friend class MemoryWritableFile;
  struct Files;  // the names and their content, shared with the files being written
  std::shared_ptr<Files> files_;
};

}  // namespace ckptio
