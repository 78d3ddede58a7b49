// SPDX-License-Identifier: Apache-2.0
#include "formats/new_storage.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <cstdint>
#include <memory>
#include <new>

#include "async/huge_pages.h"

namespace ckptio::detail {

namespace {

// Pages of the system's own, from a multiple of kHugePageBytes on: else what stands before the first huge page and
// behind the last, up to 4 MiB, comes in small ones.
struct Pages {
  void* begin;
  std::size_t n_bytes;

  explicit Pages(std::size_t n_wanted) : n_bytes(n_wanted + kHugePageBytes) {
    if (n_bytes < n_wanted) throw std::bad_alloc();
    begin = ::mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    // All of it: the system then merges neighbours, and has few of the mappings that a process may have.
    ::madvise(begin, n_bytes, MADV_HUGEPAGE);
#endif
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { ::munmap(begin, n_bytes); }

  void* first_huge() const {
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    return reinterpret_cast<void*>((address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes);
  }
};

at::DataPtr allocate(std::size_t n_bytes) {
  if (n_bytes < kHugePageBytes) return c10::GetCPUAllocator()->allocate(n_bytes);
  auto pages = std::make_unique<Pages>(n_bytes);
  void* const data = pages->first_huge();
  return {data, pages.release(), [](void* owner) { delete static_cast<Pages*>(owner); }, c10::kCPU};
}

}  // namespace

c10::Storage make_cpu_storage(std::size_t n_bytes) {
  return c10::Storage(c10::Storage::use_byte_size_t(), n_bytes, allocate(n_bytes), c10::GetCPUAllocator(),
                      /*resizable=*/true);
}

}  // namespace ckptio::detail
