// SPDX-License-Identifier: Apache-2.0
#include "cli/object_walk.h"

namespace ckptio::cli {
namespace {

using detail::Object;

void add(std::vector<const Object*>& out, const Object* object) {
  if (object != nullptr) out.push_back(object);
}

void add_dict(std::vector<const Object*>& out, const detail::ObjectDict& dict) {
  for (const auto& [key, value] : dict.items) add(out, key), add(out, value);
  const auto* attributes = dict.attributes == nullptr ? nullptr : dict.attributes->get<detail::ObjectDict>();
  if (attributes != nullptr) {
    for (const auto& [key, value] : attributes->items) add(out, value);
  }
}

void add_opaque(std::vector<const Object*>& out, const detail::ObjectOpaque& opaque) {
  if (opaque.callable != nullptr && !opaque.callable->is<detail::ObjectGlobal>()) out.push_back(opaque.callable);
  add(out, opaque.args);
  add(out, opaque.kwargs);
  for (const Object* item : opaque.items) add(out, item);
  for (const Object* item : opaque.added) add(out, item);
  for (const auto& [key, value] : opaque.entries) add(out, key), add(out, value);
  add(out, opaque.state);
}

bool is_opaque(const Object& object) { return object.is<detail::ObjectOpaque>(); }

}  // namespace

std::vector<const Object*> children_of(const Object& object) {
  std::vector<const Object*> out;
  if (const auto* list = object.get<detail::ObjectList>()) {
    for (const Object* item : list->items) add(out, item);
  } else if (const auto* tuple = object.get<detail::ObjectTuple>()) {
    for (const Object* item : tuple->items) add(out, item);
  } else if (const auto* set = object.get<detail::ObjectSet>()) {
    for (const Object* item : set->items) add(out, item);
  } else if (const auto* dict = object.get<detail::ObjectDict>()) {
    add_dict(out, *dict);
  } else if (const auto* tensor = object.get<detail::ObjectTensor>()) {
    for (const Object* item : tensor->parts) add(out, item);
  } else if (const auto* opaque = object.get<detail::ObjectOpaque>()) {
    add_opaque(out, *opaque);
  }
  return out;
}

bool is_container(const Object& object) {
  if (const auto* tuple = object.get<detail::ObjectTuple>()) return !tuple->is_size && !tuple->items.empty();
  return object.is<detail::ObjectList>() || object.is<detail::ObjectDict>() || object.is<detail::ObjectSet>() ||
         object.is<detail::ObjectByteArray>();
}

Numbering::Numbering(const Object& root) {
  count(root, false);
  number(root);
  count(root, true);
}

void Numbering::count(const Object& root, bool into_opaque) {
  std::vector<const Object*> stack = {&root};
  while (!stack.empty()) {
    const Object& object = *stack.back();
    stack.pop_back();
    if (is_container(object) || is_opaque(object)) {
      Count& count = counts_[&object];
      if (++(into_opaque ? count.n_all : count.n_outside) > 1) continue;
    }
    if (is_opaque(object) && !into_opaque) continue;
    for (const Object* child : children_of(object)) stack.push_back(child);
  }
}

// In the order of the description: depth first, children from the first on.
void Numbering::number(const Object& root) {
  std::vector<const Object*> stack = {&root};
  while (!stack.empty()) {
    const Object& object = *stack.back();
    stack.pop_back();
    if (is_container(object)) {
      Count& count = counts_[&object];
      if (count.n_outside > 1) {
        if (count.id >= 0) continue;
        count.id = n_ids_++;
      }
    }
    if (is_opaque(object)) continue;
    if (const auto* tensor = object.get<detail::ObjectTensor>()) {
      if (tensor->storage != detail::ObjectTensor::kNoStorage) storage_number(tensor->storage);
    }
    const std::vector<const Object*> children = children_of(object);
    stack.insert(stack.end(), children.rbegin(), children.rend());
  }
}

std::int64_t Numbering::id_of(const Object& object) {
  const auto found = counts_.find(&object);
  if (found == counts_.end()) return -1;
  Count& count = found->second;
  if (count.id < 0 && (count.n_outside > 1 || count.n_all > 1)) count.id = n_ids_++;
  return count.id;
}

std::int64_t Numbering::storage_number(std::uint32_t storage) {
  return storages_.emplace(storage, static_cast<std::int64_t>(storages_.size())).first->second;
}

bool Numbering::is_seen_outside(const Object& object) const {
  const auto found = counts_.find(&object);
  return found != counts_.end() && found->second.n_outside > 0;
}

}  // namespace ckptio::cli
