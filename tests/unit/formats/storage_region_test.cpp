// SPDX-License-Identifier: Apache-2.0
#include "formats/storage_region.h"

#include <ATen/ATen.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "support/catch.h"

using namespace ckptio::detail;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::size_t n_resident_pages(const void* data, std::size_t n_bytes) {
  const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(data) / page_bytes * page_bytes;
  std::vector<unsigned char> pages(n_bytes / page_bytes);
  REQUIRE(::mincore(reinterpret_cast<void*>(address), n_bytes, pages.data()) == 0);
  std::size_t n = 0;
  for (const unsigned char page : pages) n += page & 1;
  return n;
}

}  // namespace

TEST_CASE("Storages stand in a region as in their file, and give their memory back one by one") {
  const FileRange first{1000, 4 * kMiB}, second{first.end() + 64 * 100, 3 * kMiB};
  auto region = StorageRegion::make({first.offset, second.end() - first.offset});
  const ReadWindow window = region->window();
  CHECK(window.offset == first.offset);
  CHECK(window.n_bytes == second.end() - first.offset);
  c10::Storage a = region->make_storage(first), b = region->make_storage(second);
  region.reset();
  CHECK(a.data() == window.memory);
  CHECK(static_cast<const char*>(b.data()) - static_cast<const char*>(a.data()) ==
        static_cast<std::ptrdiff_t>(second.offset - first.offset));
  for (const c10::Storage* storage : {&a, &b}) {
    CHECK(reinterpret_cast<std::uintptr_t>(storage->data()) % c10::gAlignment == 0);
    std::memset(storage->mutable_data(), 7, storage->nbytes());
  }
  const void* const of_a = a.data();
  CHECK(n_resident_pages(of_a, first.n_bytes) > 0);
  a = c10::Storage();
  CHECK(n_resident_pages(of_a, first.n_bytes) == 0);
  CHECK(at::empty({0}, at::kByte).set_(b, 0, {3 * static_cast<std::int64_t>(kMiB)}, {1}).eq(7).all().item<bool>());
}

TEST_CASE("A tensor over a storage of a region can grow, and its neighbour stays as it is") {
  const FileRange first{0, kMiB}, second{kMiB, kMiB};
  auto region = StorageRegion::make({0, 2 * kMiB});
  at::Tensor tensor = at::empty({0}, at::kByte).set_(region->make_storage(first), 0, {100}, {1});
  at::Tensor other = at::empty({0}, at::kByte).set_(region->make_storage(second), 0, {100}, {1});
  region.reset();
  tensor.fill_(1);
  other.fill_(2);
  tensor.resize_({3 * static_cast<std::int64_t>(kMiB)});
  CHECK(tensor.narrow(0, 0, 100).eq(1).all().item<bool>());
  CHECK(other.eq(2).all().item<bool>());
}

TEST_CASE("Large storages side by side share a region, with small ones between them") {
  const auto parts_of = [](const std::vector<FileRange>& ranges) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> parts;
    for (const RegionOfRanges& region : find_regions(ranges)) parts.emplace_back(region.part.offset, region.part.end());
    return parts;
  };
  using Parts = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
  CHECK(parts_of({}).empty());
  CHECK(parts_of({{0, kMiB}, {kMiB, 100}}).empty());  // too little
  CHECK(parts_of({{64, 3 * kMiB}}) == Parts{{64, 64 + 3 * kMiB}});
  CHECK(parts_of({{0, 10}, {64, kMiB}, {64 + kMiB, 1000}, {1088 + kMiB, kMiB}, {1088 + 2 * kMiB, 5}}) ==
        Parts{{64, 1088 + 2 * kMiB}});
  // Far from each other; and where the second would not be aligned.
  CHECK(parts_of({{0, 2 * kMiB}, {3 * kMiB, 2 * kMiB}}) == Parts{{0, 2 * kMiB}, {3 * kMiB, 5 * kMiB}});
  CHECK(parts_of({{0, 2 * kMiB + 8}, {2 * kMiB + 8, 2 * kMiB}}) ==
        Parts{{0, 2 * kMiB + 8}, {2 * kMiB + 8, 4 * kMiB + 8}});
  // The same bytes twice.
  CHECK(parts_of({{0, 2 * kMiB}, {0, 2 * kMiB}}) == Parts{{0, 2 * kMiB}, {0, 2 * kMiB}});
}
