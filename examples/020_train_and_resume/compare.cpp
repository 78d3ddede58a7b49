// SPDX-License-Identifier: Apache-2.0
#include "compare.h"

#include <bit>
#include <cstring>

namespace {

using ckptio::Dict;
using ckptio::List;
using ckptio::Value;

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.dtype() != b.dtype() || a.sizes() != b.sizes()) return false;
  const auto x = a.contiguous(), y = b.contiguous();
  return x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

bool same_bits(double a, double b) { return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b); }

void walk(const Value& a, const Value& b, const std::string& place, Comparison& result);

void walk_dict(const Dict& a, const Dict& b, const std::string& place, Comparison& result) {
  if (a.size() != b.size()) result.differences.push_back(place + " (number of entries)");
  for (const auto& [key, value] : a) {
    const std::string where = place + "[" + to_string(key) + "]";
    if (const Value* other = b.find(key)) {
      walk(value, *other, where, result);
    } else {
      result.differences.push_back(where + " (missing)");
    }
  }
}

void walk_list(const List& a, const List& b, const std::string& place, Comparison& result) {
  if (a.size() != b.size()) return result.differences.push_back(place + " (number of items)");
  for (int64_t i = 0; i < std::ssize(a); ++i) walk(a[i], b[i], place + "[" + std::to_string(i) + "]", result);
}

void walk(const Value& a, const Value& b, const std::string& place, Comparison& result) {
  if (a.is<Dict>() && b.is<Dict>()) return walk_dict(a.as<Dict>(), b.as<Dict>(), place, result);
  if (a.is<List>() && b.is<List>()) return walk_list(a.as<List>(), b.as<List>(), place, result);
  bool same = a == b;
  if (a.is<at::Tensor>() && b.is<at::Tensor>()) {
    ++result.n_tensors;
    result.n_bytes += static_cast<int64_t>(a.as<at::Tensor>().nbytes());
    same = same_bits(a.as<at::Tensor>(), b.as<at::Tensor>());
  } else {
    ++result.n_values;
    if (a.is<double>() && b.is<double>()) same = same_bits(a.as<double>(), b.as<double>());
  }
  if (!same) result.differences.push_back(place);
}

}  // namespace

std::vector<Comparison> compare(const ckptio::Checkpoint& a, const ckptio::Checkpoint& b) {
  std::vector<Comparison> results;
  for (const auto& [key, value] : a) {
    Comparison& result = results.emplace_back();
    result.key = key.as<std::string>();
    walk(value, b.get(key, nullptr), result.key, result);
  }
  for (const auto& [key, value] : b) {
    if (!a.contains(key)) results.push_back({.key = key.as<std::string>(), .differences = {"only in the second"}});
  }
  return results;
}
