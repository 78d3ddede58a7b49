// SPDX-License-Identifier: Apache-2.0
// How the objects that can be reached from a root refer to each other: how often each is used, and which of them hold
// themselves. What PickleWriter must know before it writes the first.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <unordered_map>

#include "codec/object.h"

namespace ckptio::detail {

struct ObjectReferences {
  struct Use {
    std::uint32_t count = 0;
    bool holds_itself = false;  // through others; where the walk entered the cycle
    bool is_open = false;       // during the walk
  };
  std::unordered_map<const Object*, Use> uses;      // of all but numbers, strings, None and the like
  std::map<std::string_view, std::uint32_t> texts;  // how often a string occurs, as whichever object
  std::uint64_t n_references = 0;
  // Whether an object that is complete when made (a tuple, not a list) is where the walk entered a cycle.
  bool has_indirect_cycle = false;
};

// Walks without recursion. Time and memory grow as the graph.
ObjectReferences count_references(const Object& root);

}  // namespace ckptio::detail
