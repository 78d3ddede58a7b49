// SPDX-License-Identifier: Apache-2.0
// StorageRegion: memory for storages that are loaded, in which they stand as they do in their file, so that the file
// can be read into it across their borders.
#pragma once

#include <c10/core/Storage.h>
#include <c10/util/intrusive_ptr.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/io_engine.h"

namespace ckptio::detail {

// Bytes of a file.
struct FileRange {
  std::uint64_t offset = 0, n_bytes = 0;
  std::uint64_t end() const { return offset + n_bytes; }
};

// Its pages are huge ones if the system gives them, which costs a fault for 2 MiB instead of 512. Those of a storage go
// back to the system with it, what is between storages with the last of them.
// Threads: any.
class StorageRegion final : public c10::intrusive_ptr_target {
 public:
  // Uninitialised memory for this part of a file; its first byte is on a huge page's begin. std::bad_alloc where there
  // is none.
  static c10::intrusive_ptr<StorageRegion> make(FileRange part);

  ~StorageRegion() override;

  // On the CPU, and LibTorch can resize it. Requires: it begins on a multiple of c10::gAlignment from the region's
  // begin on, and no other storage has any of it.
  c10::Storage make_storage(FileRange range);

  // Good as long as the region.
  ReadWindow window() const;

  explicit StorageRegion(FileRange part);  // for make()

 private:
  struct Share;

  char* address_of(std::uint64_t offset) const;

  const FileRange part_;
  const std::size_t n_mapped_;
  void* mapped_ = nullptr;
  char* memory_ = nullptr;  // where the part begins
};

// Ranges that are worth a region: large ones side by side. Others, which are small, may be between them.
struct RegionOfRanges {
  std::size_t first = 0, last = 0;  // indices, the last exclusive
  FileRange part;
};
bool belongs_into_region(const FileRange& range);
// `ranges`: in the order of the file.
std::vector<RegionOfRanges> find_regions(const std::vector<FileRange>& ranges);

}  // namespace ckptio::detail
