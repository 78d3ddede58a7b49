// SPDX-License-Identifier: Apache-2.0
#include "formats/new_storage.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

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

c10::Storage storage_of(std::size_t n_bytes, at::DataPtr data) {
  return c10::Storage(c10::Storage::use_byte_size_t(), n_bytes, std::move(data), c10::GetCPUAllocator(),
                      /*resizable=*/true);
}

// What one small tensor may keep alive of others that are gone, and the largest that is called small.
constexpr std::size_t kBlockBytes = std::size_t{32} << 10, kMaxSmallBytes = std::size_t{2} << 10;
constexpr std::size_t kAlignment = c10::gAlignment;

}  // namespace

// Counts who uses it: the storages in it, and the maker as long as more are to come.
class alignas(kAlignment) StorageMaker::Block {
 public:
  static Block* make() { return new (::operator new (kBlockBytes, std::align_val_t{kAlignment})) Block; }

  // Null where there is no room for them.
  void* take(std::size_t n_bytes) {
    const std::size_t n_taken = (n_bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (n_taken > kBlockBytes - n_used_) return nullptr;
    n_users_.fetch_add(1, std::memory_order_relaxed);
    return reinterpret_cast<char*>(this) + std::exchange(n_used_, n_used_ + n_taken);
  }

  static void release(void* block) {
    auto* const self = static_cast<Block*>(block);
    if (self->n_users_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    self->~Block();
    ::operator delete (block, std::align_val_t{kAlignment});
  }

 private:
  std::atomic<std::size_t> n_users_{1};
  std::size_t n_used_ = sizeof(Block);
};

StorageMaker::~StorageMaker() {
  if (block_ != nullptr) Block::release(block_);
}

c10::Storage StorageMaker::make(std::size_t n_bytes) {
  if (n_bytes == 0 || n_bytes > kMaxSmallBytes) return make_cpu_storage(n_bytes);
  void* data = block_ == nullptr ? nullptr : block_->take(n_bytes);
  if (data == nullptr) {
    Block* const next = Block::make();
    if (block_ != nullptr) Block::release(block_);
    block_ = next;
    data = block_->take(n_bytes);
  }
  return storage_of(n_bytes, at::DataPtr(data, block_, &Block::release, c10::kCPU));
}

c10::Storage make_cpu_storage(std::size_t n_bytes) { return storage_of(n_bytes, allocate(n_bytes)); }

}  // namespace ckptio::detail
