// SPDX-License-Identifier: Apache-2.0
// Whether two Values hold the very same bits: stricter than ==, which takes -0 for 0 and any NaN for another.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>

#include "ckptio/value.h"

namespace ckptio::test {

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.dtype() != b.dtype() || a.sizes() != b.sizes()) return false;
  const at::Tensor x = a.detach().cpu().contiguous(), y = b.detach().cpu().contiguous();
  return x.nbytes() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

// The path of the first difference, or "" where there is none.
inline std::string first_difference(const Value& a, const Value& b, const std::string& path = "checkpoint") {
  if (const Dict* x = a.get_if<Dict>()) {
    const Dict* y = b.get_if<Dict>();
    if (y == nullptr || x->size() != y->size()) return path + ": " + to_string(a) + " != " + to_string(b);
    for (const auto& [key, value] : *x) {
      const std::string place = path + "[" + to_string(key) + "]";
      const Value* other = y->find(key);
      if (other == nullptr) return place + ": only on one side";
      if (auto difference = first_difference(value, *other, place); !difference.empty()) return difference;
    }
    return "";
  }
  if (const List* x = a.get_if<List>()) {
    const List* y = b.get_if<List>();
    if (y == nullptr || x->size() != y->size()) return path + ": " + to_string(a) + " != " + to_string(b);
    for (std::int64_t i = 0; i < std::ssize(*x); ++i) {
      const std::string place = path + "[" + std::to_string(i) + "]";
      if (auto difference = first_difference(x->at(i), y->at(i), place); !difference.empty()) return difference;
    }
    return "";
  }
  const auto* x = a.get_if<at::Tensor>();
  const auto* y = b.get_if<at::Tensor>();
  bool same = a == b;
  if (x != nullptr && y != nullptr) same = same_bits(*x, *y);
  const auto* p = a.get_if<double>();
  const auto* q = b.get_if<double>();
  if (p != nullptr && q != nullptr) same = std::bit_cast<std::uint64_t>(*p) == std::bit_cast<std::uint64_t>(*q);
  return same ? "" : path + ": " + to_string(a) + " != " + to_string(b);
}

}  // namespace ckptio::test
