// SPDX-License-Identifier: Apache-2.0
// What files of a storage do unless they say otherwise.
#include "ckptio/storage/storage_backend.h"

#include <algorithm>

#include "ckptio/error.h"

namespace ckptio {

void WritableFile::write_at(std::uint64_t offset, const void* /*data*/, std::size_t n_bytes) {
  throw UnsupportedError("cannot write " + std::to_string(n_bytes) + " bytes at byte " + std::to_string(offset) +
                         ": this storage backend has append() only, see can_write_at()");
}

void WritableFile::write_direct_at(std::uint64_t offset, const void* data, std::size_t n_bytes) {
  write_at(offset, data, n_bytes);
}

void WritableFile::reserve(std::uint64_t /*n_bytes*/) {}

void RandomAccessFile::prefetch(std::uint64_t /*offset*/, std::size_t /*n_bytes*/) const {}

std::size_t RandomAccessFile::direct_block_bytes(std::uint64_t /*offset*/, std::size_t /*n_bytes*/) const { return 0; }

void RandomAccessFile::read_direct_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const {
  const std::uint64_t n_left = size() - std::min(offset, size());
  read_at(offset, destination, static_cast<std::size_t>(std::min<std::uint64_t>(n_bytes, n_left)));
}

}  // namespace ckptio
