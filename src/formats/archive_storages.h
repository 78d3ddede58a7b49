// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Storage.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "ckptio/checkpoint_io.h"
#include "ckptio/storage/storage_backend.h"
#include "codec/archive.h"

namespace ckptio::detail {

// The storages of `archive`, which was opened on `file`: read and checked, or mapped if options.mmap says so; and then
// where options.map_location wants them. One for each of archive.storages().
// CorruptError: contents that do not fit their CRC; IoError: not enough memory; the errors of MapLocation::map.
std::vector<c10::Storage> read_storages(const Archive& archive, const RandomAccessFile& file,
                                        const LoadOptions& options);

// One of them on the CPU, read and checked. Errors: as above.
c10::Storage read_storage(const Archive& archive, std::size_t index);

// One of them as it stands in `file`, which RandomAccessFile::map gave, or null; nullopt where that cannot be.
std::optional<c10::Storage> map_storage(const Archive& archive, std::size_t index, const std::shared_ptr<void>& file);

}  // namespace ckptio::detail
