// SPDX-License-Identifier: Apache-2.0
// MappedRecord: a part of a mapped file under a storage, that is compared with its CRC-32 when it is first used.
//
// The storage's DataPtr owns it, and tells it by its deleter: whatever views of the storage there are, they find it,
// and none is found where the storage got other memory.
// Threads: any number may verify at once.
#pragma once

#include <c10/core/Storage.h>

#include <cstdint>
#include <memory>
#include <string>

namespace ckptio::detail {

// A file mapped a second time. Nobody writes here, so that what stands in the file can be told from changes that were
// made in the memory of tensors.
struct UncheckedFile {
  std::string name;
  std::shared_ptr<const void> contents;
};

struct MappedRecord {
  std::shared_ptr<void> memory;  // what the storage points into
  std::shared_ptr<const UncheckedFile> file;
  std::string name;
  std::uint64_t offset = 0;  // in both
  std::uint64_t n_bytes = 0;
  std::uint32_t crc = 0;
};

// On the CPU, at the record's place in `memory`.
c10::Storage make_storage(MappedRecord record);

// CorruptError where `storage` is of make_storage and its record is damaged. Reads a record until it was found right
// once, and nothing for other storages.
void verify_storage(const c10::Storage& storage);

}  // namespace ckptio::detail
