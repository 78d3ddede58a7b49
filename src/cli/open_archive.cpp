// SPDX-License-Identifier: Apache-2.0
#include "cli/open_archive.h"

#include <memory>

#include "ckptio/error.h"
#include "ckptio/storage/local_storage.h"

namespace ckptio::cli {
detail::ByteSource open_file(const std::string& path) {
  const LocalStorage storage;
  if (storage.exists(path + "/.metadata")) {
    throw UnsupportedError("cannot read '" + path +
                           "': it is a folder of PyTorch Distributed Checkpoint, which this version does not read");
  }
  const std::shared_ptr<RandomAccessFile> file = storage.open(path);
  return {path, file->size(), [file](std::uint64_t offset, void* destination, std::size_t n_bytes) {
            file->read_at(offset, destination, n_bytes);
          }};
}

detail::Archive open_archive(const std::string& path) { return detail::Archive::open(open_file(path)); }

}  // namespace ckptio::cli
