// SPDX-License-Identifier: Apache-2.0
// SavedStorage: what a save has to know of a storage, looked up once: for small tensors, each look is a wait for
// memory. Threads: as a value.
#pragma once

#include <c10/core/Storage.h>

#include <cstdint>

#include "value/mapped_record.h"

namespace ckptio::detail {

struct SavedStorage {
  // Checks its contents if they are mapped and were not yet: CorruptError. `of` must outlive this; it may be null.
  explicit SavedStorage(const c10::Storage& of) : storage(&of) {
    if (!of) return;
    verify_storage(of);
    n_bytes = of.nbytes();
    if (of.device().is_cpu()) data = of.data();
  }

  const c10::Storage* storage;
  std::uint64_t n_bytes = 0;
  const void* data = nullptr;  // null: it is elsewhere, or nowhere
};

}  // namespace ckptio::detail
