// SPDX-License-Identifier: Apache-2.0
#include "codec/object_references.h"

#include <utility>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

using References = std::vector<const Object*>;

void append_pairs(References& to, const std::vector<std::pair<Object*, Object*>>& pairs) {
  for (const auto& [key, value] : pairs) {
    to.push_back(key);
    to.push_back(value);
  }
}

void append(References& to, const std::vector<Object*>& items) { to.insert(to.end(), items.begin(), items.end()); }

References references_of_opaque(const ObjectOpaque& opaque) {
  References result = {opaque.callable, opaque.args, opaque.kwargs};
  append(result, opaque.items);
  append(result, opaque.added);
  append_pairs(result, opaque.entries);
  result.push_back(opaque.state);
  return result;
}

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

std::vector<const Object*> references_of(const Object& object) {
  References result;
  if (const auto* list = object.get<ObjectList>()) {
    append(result, list->items);
  } else if (const auto* tuple = object.get<ObjectTuple>()) {
    append(result, tuple->items);
  } else if (const auto* set = object.get<ObjectSet>()) {
    append(result, set->items);
  } else if (const auto* dict = object.get<ObjectDict>()) {
    append_pairs(result, dict->items);
    result.push_back(dict->attributes);
  } else if (const auto* tensor = object.get<ObjectTensor>()) {
    append(result, tensor->parts);
    result.push_back(tensor->backward_hooks);
    result.push_back(tensor->attributes);
  } else if (const auto* opaque = object.get<ObjectOpaque>()) {
    result = references_of_opaque(*opaque);
  }
  return result;
}

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
    const References inside = references_of(object);
    if (inside.empty()) continue;
    use.is_open = true;
    to_do.push_back({&object, true});
    for (std::size_t i = inside.size(); i-- > 0;) {
      if (inside[i] != nullptr) to_do.push_back({inside[i], false});
    }
  }
  return result;
}

}  // namespace ckptio::detail
