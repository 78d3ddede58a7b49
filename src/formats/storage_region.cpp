// SPDX-License-Identifier: Apache-2.0
#include "formats/storage_region.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "async/huge_pages.h"

namespace ckptio::detail {

namespace {

std::uint64_t page_bytes() {
  static const auto n_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return n_bytes;
}

// Smaller storages have memory of their own: they would keep whole pages, and cost a call of the system each.
constexpr std::uint64_t kMinStorageBytes = std::uint64_t{128} << 10;
// So much between two of them is read for nothing rather than to begin anew.
constexpr std::uint64_t kMaxGapBytes = std::uint64_t{64} << 10;

std::uint64_t round_down(std::uint64_t number, std::uint64_t unit) { return number / unit * unit; }
std::uint64_t round_up(std::uint64_t number, std::uint64_t unit) { return (number + unit - 1) / unit * unit; }

bool can_go_on(const FileRange& part, const FileRange& range) {
  return range.offset >= part.end() && range.offset - part.end() <= kMaxGapBytes &&
         (range.offset - part.offset) % c10::gAlignment == 0;
}

}  // namespace

struct StorageRegion::Share {
  c10::intrusive_ptr<StorageRegion> region;
  char* data;
  std::size_t n_bytes;

  ~Share() {
    if (region.use_count() == 1) return;  // all of it goes
    const std::uint64_t address = reinterpret_cast<std::uintptr_t>(data);
    const std::uint64_t begin = round_up(address, page_bytes()), end = round_down(address + n_bytes, page_bytes());
    if (begin < end) ::madvise(data + (begin - address), static_cast<std::size_t>(end - begin), MADV_DONTNEED);
  }
};

c10::intrusive_ptr<StorageRegion> StorageRegion::make(FileRange part) {
  return c10::make_intrusive<StorageRegion>(part);
}

StorageRegion::StorageRegion(FileRange part)
    : part_(part), n_mapped_(static_cast<std::size_t>(part.n_bytes) + kHugePageBytes) {
  if (n_mapped_ < part.n_bytes) throw std::bad_alloc();
  mapped_ = ::mmap(nullptr, n_mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  // All of it: the system then merges neighbours, and has few of the mappings that a process may have.
  ::madvise(mapped_, n_mapped_, MADV_HUGEPAGE);
#endif
  const std::uint64_t address = reinterpret_cast<std::uintptr_t>(mapped_);
  memory_ = static_cast<char*>(mapped_) + (round_up(address, kHugePageBytes) - address);
}

StorageRegion::~StorageRegion() { ::munmap(mapped_, n_mapped_); }

char* StorageRegion::address_of(std::uint64_t offset) const { return memory_ + (offset - part_.offset); }

c10::Storage StorageRegion::make_storage(FileRange range) {
  const auto n_bytes = static_cast<std::size_t>(range.n_bytes);
  char* const data = address_of(range.offset);
  auto share = std::make_unique<Share>(Share{c10::intrusive_ptr<StorageRegion>::reclaim_copy(this), data, n_bytes});
  at::DataPtr pointer(
      data, share.release(), [](void* owner) { delete static_cast<Share*>(owner); }, c10::kCPU);
  return c10::Storage(c10::Storage::use_byte_size_t(), n_bytes, std::move(pointer), c10::GetCPUAllocator(),
                      /*resizable=*/true);
}

ReadWindow StorageRegion::window() const { return {part_.offset, part_.n_bytes, memory_}; }

bool belongs_into_region(const FileRange& range) { return range.n_bytes >= kMinStorageBytes; }

std::vector<RegionOfRanges> find_regions(const std::vector<FileRange>& ranges) {
  std::vector<RegionOfRanges> regions;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const FileRange& range = ranges[i];
    if (!belongs_into_region(range)) continue;
    if (regions.empty() || !can_go_on(regions.back().part, range)) regions.push_back({i, i + 1, range});
    regions.back().last = i + 1;
    regions.back().part.n_bytes = range.end() - regions.back().part.offset;
  }
  const auto is_too_small = [](const RegionOfRanges& region) { return region.part.n_bytes < kHugePageBytes; };
  regions.erase(std::remove_if(regions.begin(), regions.end(), is_too_small), regions.end());
  return regions;
}

}  // namespace ckptio::detail
