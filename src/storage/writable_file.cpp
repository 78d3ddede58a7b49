// SPDX-License-Identifier: Apache-2.0
#include "ckptio/error.h"
#include "ckptio/storage/storage_backend.h"

namespace ckptio {

void WritableFile::write_at(std::uint64_t offset, const void* /*data*/, std::size_t n_bytes) {
  throw UnsupportedError("cannot write " + std::to_string(n_bytes) + " bytes at byte " + std::to_string(offset) +
                         ": this storage backend has append() only, see can_write_at()");
}

void WritableFile::reserve(std::uint64_t /*n_bytes*/) {}

}  // namespace ckptio
