// SPDX-License-Identifier: Apache-2.0
#include "async/huge_pages.h"

#include <sys/mman.h>

#include <cstdint>

namespace ckptio::detail {

void ask_for_huge_pages(void* data, std::size_t n_bytes) noexcept {
#ifdef MADV_HUGEPAGE
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = (begin + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const std::uintptr_t last = (begin + n_bytes) / kHugePageBytes * kHugePageBytes;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)data, (void)n_bytes;
#endif
}

}  // namespace ckptio::detail
