// SPDX-License-Identifier: Apache-2.0
// OpaqueContext: the objects of a file while something in them has not become a Value; what Opaques refer to.
//
// Threads: any number may read one; what changes is guarded by `mutex`.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "codec/object.h"
#include "hash/hash_table.h"

namespace ckptio::detail {

// The tensors that were made of objects: one object is one tensor, however often it is met.
class MadeTensors {
 public:
  const at::Tensor* find(const Object* object) const {
    const std::uint32_t* index =
        by_object_.find(hash(object), [&](std::uint32_t other) { return all_[other].first == object; });
    return index == nullptr ? nullptr : &all_[*index].second;
  }
  // Requires: there is none.
  void add(const Object* object, at::Tensor tensor) {
    by_object_.find_or_add(hash(object), static_cast<std::uint32_t>(all_.size()), [](std::uint32_t) { return false; });
    all_.emplace_back(object, std::move(tensor));
  }
  template <class IsWanted>
  void keep_if(IsWanted is_wanted) {
    const auto all = std::exchange(all_, {});
    by_object_.clear();
    for (const auto& [object, tensor] : all) {
      if (is_wanted(object)) add(object, tensor);
    }
  }
  void clear() {
    keep_if([](const Object*) { return false; });
  }

 private:
  static std::uint64_t hash(const Object* object) { return hash_of(reinterpret_cast<std::uintptr_t>(object)); }

  std::vector<std::pair<const Object*, at::Tensor>> all_;
  HashTable<std::uint32_t> by_object_;  // indices
};

struct OpaqueContext {
  std::string where;  // for messages: the path the user gave
  ObjectGraph graph;
  std::vector<c10::Storage> storages;  // one for each of graph.storages: where it is used from now on
  // Containers and opaque objects that hold themselves, through whatever they hold.
  std::unordered_set<const Object*> in_cycles;

  mutable std::mutex mutex;
  mutable MadeTensors tensors;      // so far
  mutable bool has_opaque = false;  // object_to_value made an Opaque that refers to this
};

// Requires: `storages` has one for each of `graph.storages`.
std::shared_ptr<OpaqueContext> make_opaque_context(std::string where, ObjectGraph graph,
                                                   std::vector<c10::Storage> storages);

}  // namespace ckptio::detail
