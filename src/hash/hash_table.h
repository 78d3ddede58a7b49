// SPDX-License-Identifier: Apache-2.0
// HashTable: where things are that are kept elsewhere, by a key that they have: indices, iterators.
//
// Open addressing: it allocates once in a while, and not for each item. The hashes below depend on numbers that every
// process draws anew, so that no file can be made whose names collide.
// Threads: any number may read; a writer needs it for itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ckptio::detail {

std::uint64_t hash_of(std::string_view text);
std::uint64_t hash_ignoring_case(std::string_view text);  // of ASCII letters: as fold_case()
std::uint64_t hash_of(std::uint64_t number);
inline std::uint64_t hash_of_address(const void* address) {
  return hash_of(std::uint64_t{reinterpret_cast<std::uintptr_t>(address)});
}

template <class Item>
class HashTable {
 public:
  // Room for so many items.
  void reserve(std::size_t n_items) {
    if (slots_.size() >= 2 * n_items && !slots_.empty()) return;
    std::size_t n_slots = 16;
    while (n_slots < 2 * n_items) n_slots *= 2;
    move_to(n_slots);
  }

  // The item of this hash for which `is_it(item)` holds, or null. Valid until the next one is added or erased.
  template <class IsIt>
  const Item* find(std::uint64_t hash, IsIt is_it) const {
    if (slots_.empty()) return nullptr;
    const Slot& slot = slots_[place_of(tag_of(hash), is_it)];
    return slot.tag == 0 ? nullptr : &slot.item;
  }

  // The same; where there is none, adds `item` and returns null.
  template <class IsIt>
  const Item* find_or_add(std::uint64_t hash, Item item, IsIt is_it) {
    reserve(n_items_ + 1);
    Slot& slot = slots_[place_of(tag_of(hash), is_it)];
    if (slot.tag != 0) return &slot.item;
    slot = {item, tag_of(hash)};
    ++n_items_;
    return nullptr;
  }

  // The item that is there, or else `item`, which is added.
  template <class IsIt>
  Item get_or_add(std::uint64_t hash, Item item, IsIt is_it) {
    const Item* known = find_or_add(hash, item, is_it);
    return known == nullptr ? item : *known;
  }

  // Requires: find() gave it.
  void erase(const Item* item) {
    const std::size_t mask = slots_.size() - 1;
    auto hole = static_cast<std::size_t>(reinterpret_cast<const Slot*>(item) - slots_.data());
    // Those behind it that would no longer be found move up.
    for (std::size_t place = (hole + 1) & mask; slots_[place].tag != 0; place = (place + 1) & mask) {
      const std::size_t wanted = first_place(slots_[place].tag);
      if (((place - wanted) & mask) < ((place - hole) & mask)) continue;
      slots_[hole] = slots_[place];
      hole = place;
    }
    slots_[hole] = {};
    --n_items_;
  }

  std::size_t size() const noexcept { return n_items_; }

  void clear() noexcept {
    slots_.clear();
    n_items_ = 0;
  }

 private:
  struct Slot {
    Item item{};            // first: erase() goes from it to the slot
    std::uint32_t tag = 0;  // a part of the hash; 0: free
  };

  static std::uint32_t tag_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32) | 1; }
  std::size_t first_place(std::uint32_t tag) const { return (tag >> 1) & (slots_.size() - 1); }

  // Its slot, or the free one where it belongs. At least half of them are free.
  template <class IsIt>
  std::size_t place_of(std::uint32_t tag, const IsIt& is_it) const {
    std::size_t place = first_place(tag);
    while (slots_[place].tag != 0 && (slots_[place].tag != tag || !is_it(slots_[place].item))) {
      place = (place + 1) & (slots_.size() - 1);
    }
    return place;
  }

  void move_to(std::size_t n_slots) {
    std::vector<Slot> old(n_slots);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.tag != 0) slots_[place_of(slot.tag, [](const Item&) { return false; })] = slot;
    }
  }

  std::vector<Slot> slots_;  // a power of two
  std::size_t n_items_ = 0;
};

}  // namespace ckptio::detail
