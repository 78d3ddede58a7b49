// SPDX-License-Identifier: Apache-2.0
// StorageReader: the storages of an archive, from its file into memory or mapped.
//
// Bytes that stand in the file as they will in memory go through the engine, side by side; those that are deflated or
// of another byte order are read one by one.
// Threads: one at a time. Errors: CorruptError where contents do not fit their CRC, IoError where there is no memory.
// Requires: archive, file and engine outlive it.
#pragma once

#include <c10/core/Storage.h>
#include <c10/util/intrusive_ptr.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "ckptio/checkpoint_io.h"
#include "ckptio/storage/storage_backend.h"
#include "codec/archive.h"
#include "engine/io_engine.h"
#include "value/mapped_record.h"

namespace ckptio::detail {

// Bytes of a storage, and where they go.
struct StorageRange {
  std::size_t storage = 0;   // its index in the archive
  std::uint64_t offset = 0;  // in the storage
  std::uint64_t n_bytes = 0;
  void* destination = nullptr;
};

// A mapped file; all storages over it share one.
struct Mapping : c10::intrusive_ptr_target {
  explicit Mapping(std::shared_ptr<void> of_file) : mapped(std::move(of_file)) {}
  std::shared_ptr<void> mapped;
};

// Of what RandomAccessFile::map gave: null for null.
c10::intrusive_ptr<Mapping> make_mapping(std::shared_ptr<void> mapped);

class StorageReader {
 public:
  // `file`: what the archive was opened on. `verify`: contents are checked against their CRCs.
  StorageReader(const Archive& archive, const RandomAccessFile& file, IoEngine& engine, bool verify)
      : archive_(archive), file_(file), engine_(engine), verify_(verify) {}

  const Archive& archive() const { return archive_; }
  bool verifies() const { return verify_; }

  // One on the CPU, read and checked.
  c10::Storage read(std::size_t index) const;

  // All of the archive's, where options.map_location wants them, mapped where options.mmap says so.
  // Also the errors of MapLocation::map.
  std::vector<c10::Storage> read_all(const LoadOptions& options) const;

  // Whether its bytes stand in the file as they will in memory.
  bool is_plain(std::size_t index) const;

  // One as it stands in `mapping`, which may be null; nullopt where that cannot be. With `unchecked` it is checked when
  // it is used, else by whoever asked. `info`: what the graph says of it.
  std::optional<c10::Storage> map(std::size_t index, const StorageInfo& info,
                                  const c10::intrusive_ptr<Mapping>& mapping,
                                  const std::shared_ptr<const UncheckedFile>& unchecked = nullptr) const;

  // For map(), where options ask for mapped storages that are checked on use; else null.
  std::shared_ptr<const UncheckedFile> map_unchecked(const LoadOptions& options) const;

  // Compares the contents of these with their CRCs; needs a few MB of memory. Requires, as below: they are plain.
  void check(const std::vector<std::size_t>& indices) const;

  // Reads ranges that do not overlap where they go. Checked are those that are whole storages.
  void read_ranges(const std::vector<StorageRange>& ranges, bool check_whole) const;

 private:
  std::optional<std::uint32_t> crc_of(std::size_t index) const;
  // Makes and reads these, which are plain, on the CPU.
  void read_new(std::vector<std::size_t> indices, std::vector<c10::Storage>& storages) const;
  void run(const std::vector<StorageRange>& ranges, bool check_whole, std::vector<ReadWindow> windows = {}) const;

  const Archive& archive_;
  const RandomAccessFile& file_;
  IoEngine& engine_;
  bool verify_;
};

}  // namespace ckptio::detail
