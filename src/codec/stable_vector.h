// SPDX-License-Identifier: Apache-2.0
// StableVector: a sequence that grows at its end and whose items never move. A std::deque allocates for every 512
// bytes, which is for each one of larger items.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

namespace ckptio::detail {

template <class T>
class StableVector {
  template <class Vector, class Item>
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using pointer = Item*;
    using reference = Item&;

    Iterator() = default;
    Iterator(Vector& vector, std::size_t index) : vector_(&vector), index_(index) {}
    Item& operator*() const { return (*vector_)[index_]; }
    Item* operator->() const { return &(*vector_)[index_]; }
    Iterator& operator++() { return ++index_, *this; }
    Iterator operator++(int) { return Iterator(*vector_, index_++); }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.index_ == b.index_; }

   private:
    Vector* vector_ = nullptr;
    std::size_t index_ = 0;
  };

 public:
  using value_type = T;
  using iterator = Iterator<StableVector, T>;
  using const_iterator = Iterator<const StableVector, const T>;

  StableVector() = default;
  StableVector(StableVector&& other) noexcept { swap(other); }
  StableVector& operator=(StableVector&& other) noexcept {
    StableVector(std::move(other)).swap(*this);
    return *this;
  }
  StableVector(const StableVector&) = delete;
  StableVector& operator=(const StableVector&) = delete;
  ~StableVector() {
    for (std::size_t begin = 0; begin < size_; begin += kBlockItems) {
      std::destroy_n(&(*this)[begin], std::min(kBlockItems, size_ - begin));
    }
  }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T& operator[](std::size_t i) { return blocks_[i / kBlockItems].get()[i % kBlockItems]; }
  const T& operator[](std::size_t i) const { return blocks_[i / kBlockItems].get()[i % kBlockItems]; }
  T& back() { return (*this)[size_ - 1]; }
  iterator begin() { return {*this, 0}; }
  iterator end() { return {*this, size_}; }
  const_iterator begin() const { return {*this, 0}; }
  const_iterator end() const { return {*this, size_}; }

  template <class... Args>
  T& emplace_back(Args&&... args) {
    // A constructor that throws leaves an empty block, which is the next one's.
    if (size_ == blocks_.size() * kBlockItems) {
      blocks_.push_back(std::unique_ptr<T, Free>(std::allocator<T>().allocate(kBlockItems)));
    }
    T* const item = std::construct_at(blocks_.back().get() + size_ % kBlockItems, std::forward<Args>(args)...);
    ++size_;
    return *item;
  }

 private:
  static constexpr std::size_t kBlockItems = 64;
  struct Free {
    void operator()(T* block) const noexcept { std::allocator<T>().deallocate(block, kBlockItems); }
  };

  void swap(StableVector& other) noexcept {
    std::swap(blocks_, other.blocks_);
    std::swap(size_, other.size_);
  }

  std::vector<std::unique_ptr<T, Free>> blocks_;  // memory; the first size_ items of all are made
  std::size_t size_ = 0;
};

}  // namespace ckptio::detail
