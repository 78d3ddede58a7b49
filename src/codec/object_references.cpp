// SPDX-License-Identifier: Apache-2.0
#include "codec/object_references.h"

#include <vector>

namespace ckptio::detail {
namespace {

// Can be made empty and filled afterwards, so that it can be met while it is filled.
bool is_filled_later(const Object& object) {
  const auto* set = object.get<ObjectSet>();
  return object.is<ObjectList>() || object.is<ObjectDict>() || (set != nullptr && !set->frozen);
}

// Written again wherever it is used: it has no identity that anyone could see.
bool is_plain(const Object& object) {
  return object.is<ObjectNone>() || object.is<bool>() || object.is<std::int64_t>() || object.is<double>() ||
         object.is<std::complex<double>>() || object.is<DType>() || object.is<ObjectDevice>() ||
         object.is<LayoutKind>() || object.is<QSchemeKind>() || object.is<ObjectStorage>() || object.is<ObjectGlobal>();
}

// An object to enter, or to leave after all that it holds.
struct Visit {
  const Object* object = nullptr;
  bool is_end = false;
};

}  // namespace

ObjectReferences count_references(const Object& root) {
  ObjectReferences result;
  std::vector<Visit> to_do = {{&root, false}};
  while (!to_do.empty()) {
    const Visit visit = to_do.back();
    to_do.pop_back();
    if (visit.is_end) {
      result.uses[visit.object].is_open = false;
      continue;
    }
    const Object& object = *visit.object;
    ++result.n_references;
    if (const auto* text = object.get<ObjectString>()) {
      ++result.texts[text->utf8];
      continue;
    }
    if (is_plain(object)) continue;
    ObjectReferences::Use& use = result.uses[&object];
    if (++use.count > 1) {
      if (!use.is_open) continue;
      use.holds_itself = true;
      if (!is_filled_later(object)) result.has_indirect_cycle = true;
      continue;
    }
    const std::size_t n = n_children(object);
    if (n == 0) continue;
    use.is_open = true;
    to_do.push_back({&object, true});
    for (std::size_t i = n; i-- > 0;) {
      if (const Object* inside = child(object, i)) to_do.push_back({inside, false});
    }
  }
  return result;
}

}  // namespace ckptio::detail
