// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Storage.h>

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

}  // namespace ckptio::detail
