// SPDX-License-Identifier: Apache-2.0
#include "cli/object_walk.h"

#include <algorithm>

namespace ckptio::cli {
namespace {

using detail::Object;

bool is_opaque(const Object& object) { return object.is<detail::ObjectOpaque>(); }

}  // namespace

bool is_container(const Object& object) {
  if (const auto* tuple = object.get<detail::ObjectTuple>()) return !tuple->is_size && !tuple->items.empty();
  return object.is<detail::ObjectList>() || object.is<detail::ObjectDict>() || object.is<detail::ObjectSet>() ||
         object.is<detail::ObjectByteArray>();
}

bool has_identity(const Object& object) {
  return is_container(object) || is_opaque(object) || object.is<detail::ObjectTensor>();
}

std::vector<const Object*> find_shared(const Object& root, bool into_opaque, PointerSet& met) {
  std::vector<const Object*> shared;
  PointerSet known;
  std::vector<const Object*> stack = {&root};
  while (!stack.empty()) {
    const Object& object = *stack.back();
    stack.pop_back();
    if (!met.insert(&object)) {
      if (!object.is<detail::ObjectTensor>() && known.insert(&object)) shared.push_back(&object);
      continue;
    }
    if (is_opaque(object) && !into_opaque) continue;
    for_each_child(object, [&](const Object* child) {
      if (has_identity(*child)) stack.push_back(child);
    });
  }
  return shared;
}

Numbering::Numbering(const Object& root) {
  PointerSet outside;
  for (const Object* object : find_shared(root, false, outside)) shared_[object] = {true, -1};
  number(root);
  PointerSet all;
  for (const Object* object : find_shared(root, true, all)) {
    shared_.emplace(object, Shared{outside.contains(object), -1});
  }
}

// In the order of the description: depth first, children from the first on.
void Numbering::number(const Object& root) {
  std::vector<const Object*> stack = {&root};
  while (!stack.empty()) {
    const Object& object = *stack.back();
    stack.pop_back();
    if (is_opaque(object)) continue;
    const auto found = shared_.find(&object);
    if (found != shared_.end()) {
      if (found->second.id >= 0) continue;
      found->second.id = n_ids_++;
    }
    const auto* tensor = object.get<detail::ObjectTensor>();
    if (tensor != nullptr && tensor->storage != detail::ObjectTensor::kNoStorage) storage_number(tensor->storage);
    const auto n_before = static_cast<std::ptrdiff_t>(stack.size());
    for_each_child(object, [&](const Object* child) {
      if (has_identity(*child)) stack.push_back(child);
    });
    std::reverse(stack.begin() + n_before, stack.end());
  }
}

std::int64_t Numbering::id_of(const Object& object) {
  const auto found = shared_.find(&object);
  if (found == shared_.end()) return -1;
  if (found->second.id < 0) found->second.id = n_ids_++;
  return found->second.id;
}

std::int64_t Numbering::storage_number(std::uint32_t storage) {
  return storages_.emplace(storage, static_cast<std::int64_t>(storages_.size())).first->second;
}

bool Numbering::is_shared_outside_too(const Object& object) const {
  const auto found = shared_.find(&object);
  return found != shared_.end() && found->second.is_outside;
}

}  // namespace ckptio::cli
