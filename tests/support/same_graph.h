// SPDX-License-Identifier: Apache-2.0
// Whether two object graphs are the same: equal values, equal order, the same objects shared and the same cycles.
#pragma once

#include <cstring>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "codec/object.h"

namespace ckptio::test {

namespace graph_detail {

using namespace ckptio::detail;

// Objects whose identity a pickle keeps.
inline bool has_identity(const Object& object) {
  if (const auto* tuple = object.get<ObjectTuple>()) return !tuple->items.empty();
  return object.is<ObjectList>() || object.is<ObjectDict>() || object.is<ObjectSet>() || object.is<ObjectTensor>() ||
         object.is<ObjectOpaque>() || object.is<ObjectByteArray>();
}

inline bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

inline bool same_storage(const ObjectGraph& a, std::uint32_t i, const ObjectGraph& b, std::uint32_t j) {
  const StorageInfo &x = a.storages.at(i), &y = b.storages.at(j);
  return x.location == y.location && x.dtype == y.dtype && x.untyped == y.untyped && x.n_bytes == y.n_bytes;
}

inline bool same_tensor(const ObjectGraph& g, const ObjectTensor& a, const ObjectGraph& h, const ObjectTensor& b) {
  if (a.storage != ObjectTensor::kNoStorage || b.storage != ObjectTensor::kNoStorage) {
    if (!same_storage(g, a.storage, h, b.storage)) return false;
  }
  return a.form == b.form && a.dtype == b.dtype && a.layout == b.layout && a.requires_grad == b.requires_grad &&
         a.conj == b.conj && a.neg == b.neg && a.is_parameter == b.is_parameter && a.sizes == b.sizes &&
         a.strides == b.strides && a.offset == b.offset && a.is_coalesced == b.is_coalesced && a.qscheme == b.qscheme &&
         same_bits(a.scale, b.scale) && a.zero_point == b.zero_point && a.axis == b.axis;
}

// What the object holds itself, without the objects it refers to.
inline bool same_shallow(const ObjectGraph& g, const Object& a, const ObjectGraph& h, const Object& b) {
  if (a.held.index() != b.held.index()) return false;
  const auto equal = [&](auto member) {
    using T = decltype(member);
    return a.get<T>() == nullptr || *a.get<T>() == *b.get<T>();
  };
  if (!equal(bool{}) || !equal(std::int64_t{}) || !equal(DType{}) || !equal(LayoutKind{}) || !equal(QSchemeKind{})) {
    return false;
  }
  if (const auto* x = a.get<double>()) return same_bits(*x, *b.get<double>());
  if (const auto* x = a.get<std::complex<double>>()) {
    const auto& y = *b.get<std::complex<double>>();
    return same_bits(x->real(), y.real()) && same_bits(x->imag(), y.imag());
  }
  if (const auto* x = a.get<ObjectBigInt>()) return x->twos_complement == b.get<ObjectBigInt>()->twos_complement;
  if (const auto* x = a.get<ObjectString>()) return x->utf8 == b.get<ObjectString>()->utf8;
  if (const auto* x = a.get<ObjectBytes>()) return x->octets == b.get<ObjectBytes>()->octets;
  if (const auto* x = a.get<ObjectByteArray>()) return x->octets == b.get<ObjectByteArray>()->octets;
  if (const auto* x = a.get<ObjectTuple>()) return x->is_size == b.get<ObjectTuple>()->is_size;
  if (const auto* x = a.get<ObjectDict>()) return x->type == b.get<ObjectDict>()->type;
  if (const auto* x = a.get<ObjectSet>()) return x->frozen == b.get<ObjectSet>()->frozen;
  if (const auto* x = a.get<ObjectDevice>()) return x->name == b.get<ObjectDevice>()->name;
  if (const auto* x = a.get<ObjectStorage>()) return same_storage(g, x->storage, h, b.get<ObjectStorage>()->storage);
  if (const auto* x = a.get<ObjectGlobal>()) {
    return x->module == b.get<ObjectGlobal>()->module && x->name == b.get<ObjectGlobal>()->name;
  }
  if (const auto* x = a.get<ObjectTensor>()) return same_tensor(g, *x, h, *b.get<ObjectTensor>());
  if (const auto* x = a.get<ObjectOpaque>()) {
    const auto& y = *b.get<ObjectOpaque>();
    return x->make == y.make && x->items.size() == y.items.size() && x->added.size() == y.added.size() &&
           x->entries.size() == y.entries.size();
  }
  return true;
}

inline void count_storage(const Object& object, std::vector<std::uint32_t>& storages) {
  if (const auto* storage = object.get<ObjectStorage>()) storages.push_back(storage->storage);
  const auto* tensor = object.get<ObjectTensor>();
  if (tensor != nullptr && tensor->storage != ObjectTensor::kNoStorage) storages.push_back(tensor->storage);
}

}  // namespace graph_detail

// Empty if they are the same, else what differs.
inline std::string graph_difference(const detail::ObjectGraph& g, const detail::Object& a, const detail::ObjectGraph& h,
                                    const detail::Object& b) {
  using namespace graph_detail;
  std::unordered_map<const Object*, const Object*> there, back;
  std::unordered_map<std::uint32_t, std::uint32_t> storages_there, storages_back;
  std::vector<std::pair<const Object*, const Object*>> to_do = {{&a, &b}};
  while (!to_do.empty()) {
    const auto [x, y] = to_do.back();
    to_do.pop_back();
    if ((x == nullptr) != (y == nullptr)) return "an object is missing";
    if (x == nullptr) continue;
    if (!same_shallow(g, *x, h, *y))
      return "objects of kinds " + std::to_string(x->held.index()) + " and " + std::to_string(y->held.index()) +
             " differ";
    if (has_identity(*x)) {
      const bool is_known = there.contains(x) || back.contains(y);
      if (is_known && (!there.contains(x) || there[x] != y || !back.contains(y) || back[y] != x)) {
        return "an object of kind " + std::to_string(x->held.index()) + " is shared differently";
      }
      if (is_known) continue;
      there[x] = y;
      back[y] = x;
    }
    std::vector<std::uint32_t> of_x, of_y;
    count_storage(*x, of_x);
    count_storage(*y, of_y);
    for (std::size_t i = 0; i < of_x.size(); ++i) {
      const auto known = storages_there.try_emplace(of_x[i], of_y[i]).first->second;
      const auto known_back = storages_back.try_emplace(of_y[i], of_x[i]).first->second;
      if (known != of_y[i] || known_back != of_x[i]) return "a storage is shared differently";
    }
    if (n_children(*x) != n_children(*y)) return "a container has another number of items";
    for (std::size_t i = 0; i < n_children(*x); ++i) to_do.emplace_back(child(*x, i), child(*y, i));
  }
  return "";
}

}  // namespace ckptio::test
