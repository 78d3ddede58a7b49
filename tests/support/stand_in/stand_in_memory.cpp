// SPDX-License-Identifier: Apache-2.0
#include "support/stand_in/stand_in_memory.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace ckptio::test {

c10::DataPtr DeviceMemory::allocate(std::size_t n_bytes) {
  const c10::Device device = current_device_();
  if (n_bytes == 0) return {nullptr, device};
  const std::scoped_lock lock(mutex_);
  auto block = std::find_if(blocks_.begin(), blocks_.end(),
                            [&](const auto& each) { return each->is_free && each->n_bytes == n_bytes; });
  if (block == blocks_.end()) {
    blocks_.push_back(std::unique_ptr<Block>(new Block{*this, std::make_unique<char[]>(n_bytes), n_bytes, false, {}}));
    block = std::prev(blocks_.end());
  }
  (*block)->is_free = false;
  return {(*block)->bytes.get(), block->get(), &DeviceMemory::release, device};
}

void DeviceMemory::note_use(const c10::DataPtr& data, WorkStream& stream) {
  if (data.get_context() == nullptr) return;
  const std::scoped_lock lock(mutex_);
  static_cast<Block*>(data.get_context())->users.push_back(&stream);
}

void DeviceMemory::release(void* context) {
  auto& block = *static_cast<Block*>(context);
  block.home.free_after_users(block);
}

void DeviceMemory::free_after_users(Block& block) {
  const std::scoped_lock lock(mutex_);
  if (block.users.empty()) {
    block.is_free = true;
    return;
  }
  WorkStream* user = block.users.back();
  block.users.pop_back();
  user->enqueue([this, &block] { free_after_users(block); });
}

c10::DataPtr PinnedMemory::allocate(std::size_t n_bytes) {
  TORCH_CHECK(!is_exhausted, "stand-in: out of pinned memory");
  ++n_allocations;
  auto block = std::unique_ptr<Block>(new Block{*this, std::make_unique<char[]>(n_bytes)});
  char* const data = block->bytes.get();
  const std::scoped_lock lock(mutex_);
  sizes_[data] = n_bytes;
  return {data, block.release(), &PinnedMemory::release, c10::kCPU};
}

void PinnedMemory::release(void* context) {
  const std::unique_ptr<Block> block(static_cast<Block*>(context));
  const std::scoped_lock lock(block->home.mutex_);
  block->home.sizes_.erase(block->bytes.get());
}

bool PinnedMemory::contains(const void* address) const {
  const std::scoped_lock lock(mutex_);
  const auto* byte = static_cast<const char*>(address);
  auto after = sizes_.upper_bound(byte);
  return after != sizes_.begin() && byte < std::prev(after)->first + std::prev(after)->second;
}

}  // namespace ckptio::test
