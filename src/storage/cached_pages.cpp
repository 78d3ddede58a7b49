// SPDX-License-Identifier: Apache-2.0
#include "storage/cached_pages.h"

#include <sys/mman.h>
#include <unistd.h>

namespace ckptio::detail {

namespace {

constexpr int kSamples = 3;  // an odd number: there is always a majority

}  // namespace

std::optional<CachedPages> CachedPages::of([[maybe_unused]] int fd, [[maybe_unused]] std::uint64_t file_size) {
#ifdef __linux__
  const auto n_bytes = static_cast<std::size_t>(file_size);
  if (n_bytes == 0 || n_bytes != file_size) return std::nullopt;
  void* memory = ::mmap(nullptr, n_bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (memory == MAP_FAILED) return std::nullopt;
  return CachedPages({memory, [n_bytes](void* mapped) { ::munmap(mapped, n_bytes); }});
#else
  return std::nullopt;
#endif
}

bool CachedPages::are_mostly_there([[maybe_unused]] std::uint64_t offset,
                                   [[maybe_unused]] std::uint64_t n_bytes) const {
#ifdef __linux__
  static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  int n_there = 0;
  for (int sample = 0; sample < kSamples; ++sample) {
    // Away from both ends: who read what stands before or behind may have had some of these read ahead.
    const std::uint64_t at = offset + n_bytes / (2 * kSamples) * static_cast<std::uint64_t>(2 * sample + 1);
    unsigned char is_there = 1;
    char* const page = static_cast<char*>(mapped_.get()) + at / page_bytes * page_bytes;
    if (::mincore(page, 1, &is_there) != 0) return true;
    n_there += is_there & 1;
  }
  return 2 * n_there > kSamples;
#else
  return true;
#endif
}

}  // namespace ckptio::detail
