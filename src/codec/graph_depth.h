// SPDX-License-Identifier: Apache-2.0
// How deep the objects of a graph are nested, without recursion and in time that grows with the graph alone.
#pragma once

#include <cstdint>

#include "codec/graph_builder.h"
#include "codec/object.h"

namespace ckptio::detail {

// The number of containers on the longest way down from `root`. A cycle counts as many levels as it has containers: no
// walk that stops at an object it is within goes deeper. The memory it takes is charged to the builder.
std::uint64_t measure_depth(GraphBuilder& builder, const Object* root);

}  // namespace ckptio::detail
