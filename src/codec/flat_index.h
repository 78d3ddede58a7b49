// SPDX-License-Identifier: Apache-2.0
// FlatIndex: finds numbers by what they stand for, which the caller keeps. One table without a node for each: for
// thousands of small things that are looked up once or twice.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace ckptio::detail {

class FlatIndex {
 public:
  // The number added before with this hash of which is_same(number) holds; else adds `number`, and returns it.
  template <class IsSame>
  std::uint32_t find_or_add(std::uint64_t hash, std::uint32_t number, IsSame is_same) {
    if (2 * n_used_ >= slots_.size()) grow();
    // The lower half chooses the place in all tables of up to 2^32, so it is all that need be kept.
    const auto part = static_cast<std::uint32_t>(hash ^ hash >> 32);
    std::size_t place = part & (slots_.size() - 1);
    for (; slots_[place].number != kFree; place = (place + 1) & (slots_.size() - 1)) {
      if (slots_[place].hash == part && is_same(slots_[place].number)) return slots_[place].number;
    }
    slots_[place] = {part, number};
    ++n_used_;
    return number;
  }

  // The number of which is_same(number) holds, if there is one.
  template <class IsSame>
  std::optional<std::uint32_t> find(std::uint64_t hash, IsSame is_same) const {
    if (slots_.empty()) return std::nullopt;
    const auto part = static_cast<std::uint32_t>(hash ^ hash >> 32);
    std::size_t place = part & (slots_.size() - 1);
    for (; slots_[place].number != kFree; place = (place + 1) & (slots_.size() - 1)) {
      if (slots_[place].hash == part && is_same(slots_[place].number)) return slots_[place].number;
    }
    return std::nullopt;
  }

  // Addresses are multiples of 16 or more, and near each other.
  static std::uint64_t hash(const void* address) {
    return reinterpret_cast<std::uintptr_t>(address) * 0x9E3779B97F4A7C15 >> 20;
  }

 private:
  static constexpr std::uint32_t kFree = 0xFFFFFFFF;
  static constexpr std::size_t kFewest = 64;
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t number = kFree;
  };

  void grow() {
    std::vector<Slot> slots(slots_.empty() ? kFewest : 2 * slots_.size());
    for (const Slot& slot : slots_) {
      if (slot.number == kFree) continue;
      std::size_t place = slot.hash & (slots.size() - 1);
      while (slots[place].number != kFree) place = (place + 1) & (slots.size() - 1);
      slots[place] = slot;
    }
    slots_ = std::move(slots);
  }

  std::vector<Slot> slots_;  // a power of two, at most half of them used
  std::size_t n_used_ = 0;
};

}  // namespace ckptio::detail
