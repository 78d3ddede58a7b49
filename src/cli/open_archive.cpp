// SPDX-License-Identifier: Apache-2.0
#include "cli/open_archive.h"

#include <memory>

#include "ckptio/error.h"
#include "ckptio/storage/local_storage.h"

namespace ckptio::cli {
namespace {

// Enough to see what kind of file it is.
constexpr std::size_t kMaxListed = 20;

}  // namespace

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

void require_weights_only(const detail::Archive& archive) {
  const std::vector<detail::OpaquePlace> places = detail::find_opaque(&archive.root());
  if (places.empty() && archive.graph().unknown_globals.empty()) return;
  std::string list;
  for (std::size_t i = 0; i < places.size() && i < kMaxListed; ++i) {
    list += (i > 0 ? ", " : "") + places[i].global + " at " + places[i].path;
  }
  if (places.empty()) {  // named in the file, used nowhere
    for (const auto& global : archive.graph().unknown_globals) list += (list.empty() ? "" : ", ") + global.name;
  }
  if (places.size() > kMaxListed) list += ", and " + std::to_string(places.size() - kMaxListed) + " more";
  throw UnsafeError("'" + archive.source().name + "' holds more than tensors and plain values: " + list);
}

}  // namespace ckptio::cli
