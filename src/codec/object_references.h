// SPDX-License-Identifier: Apache-2.0
// How the objects that can be reached from a root refer to each other: which are used more than once, and which of them
// hold themselves. What PickleWriter must know before it writes the first.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/object.h"

namespace ckptio::detail {

struct ObjectReferences {
  struct Use {
    bool is_used : 1 = false;
    bool is_used_again : 1 = false;  // of a string: or one of the same text is
    bool holds_itself : 1 = false;   // through others; where the walk entered the cycle
    bool is_open : 1 = false;        // during the walk
  };
  std::vector<Use> uses;  // by Object::number; nothing of numbers, None and the like
  std::uint64_t n_references = 0;
  std::uint64_t n_text_bytes = 0;  // of all strings, each as often as it is referred to
  std::uint64_t n_tensors = 0;     // each once
  // Whether an object that is complete when made (a tuple, not a list) is where the walk entered a cycle.
  bool has_indirect_cycle = false;
};

// Walks without recursion. Time and memory grow as the graph. Requires: `root` is an object of the graph.
ObjectReferences count_references(const ObjectGraph& graph, const Object& root);

}  // namespace ckptio::detail
