// SPDX-License-Identifier: Apache-2.0
// PointerSet: which objects were met, in a few bytes for each: a graph may have millions. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace ckptio::cli {

// Open addressing. The addresses are the allocator's, not a file's choice.
class PointerSet {
 public:
  // True if it was not there yet. Requires: not null.
  bool insert(const void* pointer) {
    if (2 * (n_ + 1) > slots_.size()) grow();
    const bool is_new = put(pointer);
    n_ += is_new;
    return is_new;
  }

  bool contains(const void* pointer) const {
    if (slots_.empty()) return false;
    for (std::size_t i = place_of(pointer);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i] == pointer) return true;
      if (slots_[i] == nullptr) return false;
    }
  }

 private:
  std::size_t place_of(const void* pointer) const {
    const auto bits = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer));
    return (bits * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1);
  }

  bool put(const void* pointer) {
    for (std::size_t i = place_of(pointer);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i] == pointer) return false;
      if (slots_[i] == nullptr) return slots_[i] = pointer, true;
    }
  }

  void grow() {
    std::vector<const void*> old(slots_.empty() ? 64 : 2 * slots_.size(), nullptr);
    std::swap(old, slots_);
    for (const void* pointer : old) {
      if (pointer != nullptr) put(pointer);
    }
  }

  std::vector<const void*> slots_;  // a power of two
  std::size_t n_ = 0;
};

}  // namespace ckptio::cli
