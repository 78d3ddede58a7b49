// SPDX-License-Identifier: Apache-2.0
// Walks over object graphs that may be deep, shared and cyclic, without recursion: what an object is made of, and
// numbers for what is met twice. Threads: any number may walk one graph.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "cli/pointer_set.h"
#include "codec/object.h"

namespace ckptio::cli {

// Calls `use(const Object*)` for the objects directly inside `object`, in the order in which they are described: of a
// dict keys and values in turn, then its attributes' values; of a tensor its parts; of an opaque object its fields.
template <typename Use>
void for_each_child(const detail::Object& object, const Use& use) {
  const auto use_if = [&](const detail::Object* child) {
    if (child != nullptr) use(child);
  };
  const auto use_all = [&](const std::vector<detail::Object*>& items) {
    for (const detail::Object* item : items) use_if(item);
  };
  if (const auto* list = object.get<detail::ObjectList>()) return use_all(list->items);
  if (const auto* tuple = object.get<detail::ObjectTuple>()) return use_all(tuple->items);
  if (const auto* set = object.get<detail::ObjectSet>()) return use_all(set->items);
  if (const auto* tensor = object.get<detail::ObjectTensor>()) return use_all(tensor->parts);
  if (const auto* dict = object.get<detail::ObjectDict>()) {
    for (const auto& [key, value] : dict->items) use_if(key), use_if(value);
    const auto* attributes = dict->attributes == nullptr ? nullptr : dict->attributes->get<detail::ObjectDict>();
    if (attributes == nullptr) return;
    for (const auto& [key, value] : attributes->items) use_if(value);
  } else if (const auto* opaque = object.get<detail::ObjectOpaque>()) {
    if (opaque->callable != nullptr && !opaque->callable->is<detail::ObjectGlobal>()) use(opaque->callable);
    use_if(opaque->args);
    use_if(opaque->kwargs);
    use_all(opaque->items);
    use_all(opaque->added);
    for (const auto& [key, value] : opaque->entries) use_if(key), use_if(value);
    use_if(opaque->state);
  }
}

// What Python's containers are, those of which it matters that two references name one object. Not torch.Size, not the
// empty tuple, of which Python has one.
bool is_container(const detail::Object& object);

// A container, a tensor or an opaque object.
bool has_identity(const detail::Object& object);

// The containers and opaque objects below `root` that more than one reference names. `into_opaque`: also what stands
// in opaque objects. What was met is added to `met`.
std::vector<const detail::Object*> find_shared(const detail::Object& root, bool into_opaque, PointerSet& met);

// Every object below `root` that is no plain value, once: containers, tensors, opaque objects.
template <typename Use>
void for_each_object(const detail::Object& root, const Use& use) {
  PointerSet met;
  std::vector<const detail::Object*> stack = {&root};
  while (!stack.empty()) {
    const detail::Object& object = *stack.back();
    stack.pop_back();
    if (!met.insert(&object)) continue;
    use(object);
    for_each_child(object, [&](const detail::Object* child) {
      if (has_identity(*child)) stack.push_back(child);
    });
  }
}

// Numbers for containers that are met more than once below `root`, for opaque objects likewise, and for storages. As
// the fixtures' describe() counts, which does not look into opaque objects; what only those share comes after.
class Numbering {
 public:
  explicit Numbering(const detail::Object& root);

  // -1 where there is one reference to it alone.
  std::int64_t id_of(const detail::Object& object);
  std::int64_t storage_number(std::uint32_t storage);

  // True if there are several references to `object`, and one of them stands outside all opaque objects.
  bool is_shared_outside_too(const detail::Object& object) const;

 private:
  struct Shared {
    bool is_outside = false;
    std::int64_t id = -1;
  };
  void number(const detail::Object& root);

  std::unordered_map<const detail::Object*, Shared> shared_;
  std::map<std::uint32_t, std::int64_t> storages_;
  std::int64_t n_ids_ = 0;
};

}  // namespace ckptio::cli
