// SPDX-License-Identifier: Apache-2.0
#include "formats/new_storage.h"

#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "async/huge_pages.h"
#include "formats/storage_region.h"

namespace ckptio::detail {

namespace {

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

c10::Storage make_cpu_storage(std::size_t n_bytes) {
  if (n_bytes < kHugePageBytes) return storage_of(n_bytes, c10::GetCPUAllocator()->allocate(n_bytes));
  return StorageRegion::make({0, n_bytes})->make_storage({0, n_bytes});
}

}  // namespace ckptio::detail
