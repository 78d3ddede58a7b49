// SPDX-License-Identifier: Apache-2.0
#include "cli/tensor_difference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cli/elements.h"

namespace ckptio::cli {
namespace {

// Hands out a tensor's elements, a run of them at a time.
class Elements {
 public:
  Elements(StorageBytes& bytes, const TensorView& view)
      : reader_(bytes, view), item_size_(detail::item_size(view.dtype)) {}

  // How many are at data(); 0 at the end.
  std::size_t available() {
    if (at_ == piece_.n_bytes) piece_ = reader_.next(), at_ = 0;
    return (piece_.n_bytes - at_) / item_size_;
  }
  const unsigned char* data() const { return piece_.data + at_; }
  void skip(std::size_t n) { at_ += n * item_size_; }
  std::size_t item_size() const { return item_size_; }

 private:
  TensorReader reader_;
  std::size_t item_size_;
  TensorReader::Piece piece_{};
  std::size_t at_ = 0;
};

// Adds one element to `total`.
void compare(detail::DType a_type, const unsigned char* a, detail::DType b_type, const unsigned char* b,
             TensorDifference& total) {
  bool differs = false, has_nan = false;
  for (int part = 0; part < n_parts(a_type); ++part) {
    const double x = part_of(a_type, a, part), y = part_of(b_type, b, part);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    differs = true;
    if (std::isnan(x) || std::isnan(y)) {
      has_nan = true;
      continue;
    }
    const double absolute = std::fabs(x - y), size = std::max(std::fabs(x), std::fabs(y));
    total.absolute = std::max(total.absolute, absolute);
    total.relative = std::max(total.relative, std::isinf(size) ? HUGE_VAL : absolute / size);
  }
  // Integers beyond 2^53 may differ by less than a double shows, and types that hold no numbers by their bits alone.
  if (!differs && a_type == b_type) {
    const double x = part_of(a_type, a, 0);
    const bool is_wide = a_type == detail::DType::int64 || a_type == detail::DType::uint64;
    const bool is_bits = a_type >= detail::DType::bits1x8 && a_type <= detail::DType::bits16;
    if ((is_wide && std::fabs(x) > 9007199254740992.0) || is_bits) {
      differs = std::memcmp(a, b, detail::item_size(a_type)) != 0;
      if (differs && is_wide) total.absolute = std::max(total.absolute, 1.0);
    }
  }
  total.n_different += differs;
  total.n_nan += has_nan;
}

}  // namespace

TensorDifference difference(StorageBytes& a_bytes, const TensorView& a, StorageBytes& b_bytes, const TensorView& b) {
  TensorDifference total;
  Elements left(a_bytes, a), right(b_bytes, b);
  while (const std::size_t n = std::min(left.available(), right.available())) {
    const bool is_equal = a.dtype == b.dtype && std::memcmp(left.data(), right.data(), n * left.item_size()) == 0;
    for (std::size_t i = 0; !is_equal && i < n; ++i) {
      compare(a.dtype, left.data() + i * left.item_size(), b.dtype, right.data() + i * right.item_size(), total);
    }
    left.skip(n);
    right.skip(n);
  }
  return total;
}

}  // namespace ckptio::cli
