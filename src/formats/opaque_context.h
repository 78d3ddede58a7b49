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

namespace ckptio::detail {

// The tensors that were made of a graph's objects: one object is one tensor, however often it is met.
class MadeTensors {
 public:
  const at::Tensor* find(const Object* object) const {
    const bool is_there = object->number < made_.size() && made_[object->number].first != nullptr;
    return is_there ? &made_[object->number].second : nullptr;
  }
  // Requires: there is none.
  void add(const Object* object, at::Tensor tensor) {
    if (object->number >= made_.size()) made_.resize(object->number + 1);
    made_[object->number] = {object, std::move(tensor)};
  }
  template <class IsWanted>
  void keep_if(IsWanted is_wanted) {
    for (auto& made : made_) {
      if (made.first != nullptr && !is_wanted(made.first)) made = {};
    }
  }
  void clear() noexcept { made_.clear(); }

 private:
  std::vector<std::pair<const Object*, at::Tensor>> made_;  // by the objects' numbers
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
