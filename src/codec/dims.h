// SPDX-License-Identifier: Apache-2.0
// Dims: the sizes or strides of a tensor, or the like. A vector of integers that has room for a few in itself: files
// hold thousands of tensors, and hardly any of more than four dimensions.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

namespace ckptio::detail {

class Dims {
 public:
  using value_type = std::int64_t;
  using const_iterator = const std::int64_t*;

  Dims() = default;
  Dims(const std::int64_t* first, std::size_t n) { assign(first, n); }
  Dims(std::initializer_list<std::int64_t> values) : Dims(values.begin(), values.size()) {}
  Dims(const std::vector<std::int64_t>& values) : Dims(values.data(), values.size()) {}
  Dims(const Dims& other) : Dims(other.data(), other.size()) {}
  Dims(Dims&& other) noexcept { swap(other); }
  Dims& operator=(Dims other) noexcept {
    swap(other);
    return *this;
  }
  ~Dims() = default;

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  std::int64_t* data() noexcept { return many_ ? many_.get() : few_.data(); }
  const std::int64_t* data() const noexcept { return many_ ? many_.get() : few_.data(); }
  std::int64_t* begin() noexcept { return data(); }
  std::int64_t* end() noexcept { return data() + size_; }
  const std::int64_t* begin() const noexcept { return data(); }
  const std::int64_t* end() const noexcept { return data() + size_; }
  std::int64_t& operator[](std::size_t i) noexcept { return data()[i]; }
  const std::int64_t& operator[](std::size_t i) const noexcept { return data()[i]; }
  std::int64_t& back() noexcept { return data()[size_ - 1]; }
  const std::int64_t& back() const noexcept { return data()[size_ - 1]; }

  // Requires: they are not its own.
  void assign(const std::int64_t* first, std::size_t n) {
    reserve(n);
    std::copy_n(first, n, data());
    size_ = n;
  }
  void push_back(std::int64_t value) {
    reserve(size_ + 1);
    data()[size_++] = value;
  }
  void reserve(std::size_t n) {
    if (n <= capacity_) return;
    n = std::max(n, 2 * capacity_);
    auto more = std::make_unique<std::int64_t[]>(n);
    std::copy_n(data(), size_, more.get());
    many_ = std::move(more);
    capacity_ = n;
  }
  // New ones are 0.
  void resize(std::size_t n) {
    reserve(n);
    if (n > size_) std::fill_n(data() + size_, n - size_, 0);
    size_ = n;
  }
  void swap(Dims& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    std::swap(few_, other.few_);
    std::swap(many_, other.many_);
  }

  friend bool operator==(const Dims& a, const Dims& b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  static constexpr std::size_t kFew = 4;

  std::size_t size_ = 0, capacity_ = kFew;
  std::array<std::int64_t, kFew> few_{};
  std::unique_ptr<std::int64_t[]> many_;  // instead, where there are more
};

}  // namespace ckptio::detail
