// SPDX-License-Identifier: Apache-2.0
// OpaqueContext: the objects of a file while something in them has not become a Value; what Opaques refer to.
//
// Threads: any number may read one; `tensors` is guarded by `mutex`.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "codec/object.h"

namespace ckptio::detail {

struct OpaqueContext {
  std::string where;  // for messages: the path the user gave
  ObjectGraph graph;
  std::vector<c10::Storage> storages;  // one for each of graph.storages: where it is used from now on
  // Containers and opaque objects that hold themselves, through whatever they hold.
  std::unordered_set<const Object*> in_cycles;

  // The tensors made so far: one object is one tensor, however often it is met.
  mutable std::mutex mutex;
  mutable std::unordered_map<const Object*, at::Tensor> tensors;
};

// Requires: `storages` has one for each of `graph.storages`.
std::shared_ptr<OpaqueContext> make_opaque_context(std::string where, ObjectGraph graph,
                                                   std::vector<c10::Storage> storages);

}  // namespace ckptio::detail
