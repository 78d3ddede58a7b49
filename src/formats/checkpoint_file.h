// SPDX-License-Identifier: Apache-2.0
// What the formats share in opening files and in refusing arguments.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <typeinfo>

#include "ckptio/checkpoint_io.h"
#include "ckptio/storage/storage_backend.h"
#include "codec/byte_source.h"
#include "engine/io_engine.h"

namespace ckptio::detail {

// NotFoundError "Checkpoint file not found: PATH" where nothing is there.
std::unique_ptr<RandomAccessFile> open_checkpoint_file(const StorageBackend& storage, const std::string& path);

// `file` as the codec reads it, which must outlive the source. Small ranges that follow one another are read from the
// file in one piece. One thread at a time.
ByteSource source_of(const RandomAccessFile& file, const std::string& path);

// The same; what is gone through is read by the engine's threads. `check_contents`: see ScanSource.
ByteSource source_of(const RandomAccessFile& file, const std::string& path, IoEngine& engine, bool check_contents);

// Commits what was written, after telling whoever times the save that only this is left.
void commit(WritableFile& file);

// TypeError where `state` and `map_location` are given: tensors go where the live ones are.
void refuse_map_location_of_state(const LoadOptions& options, const std::string& path);

// Lightning's TypeError if any are given. `plugin`: typeid(*this).
void refuse_storage_options(const std::optional<Dict>& storage_options, const std::type_info& plugin);

}  // namespace ckptio::detail
