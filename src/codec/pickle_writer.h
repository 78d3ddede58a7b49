// SPDX-License-Identifier: Apache-2.0
// Writes an ObjectGraph as a pickle of protocol 2, the one that torch.save uses and torch.load(weights_only=True)
// reads.
//
// Python loads equal objects from it: the same types, references that are shared stay shared, cycles stay cycles,
// OpaqueObjects are made by the same steps. Integers beyond 32 bits are written in 8 bytes where they fit, since
// torch::pickle_load reads no others. Equal graphs give equal bytes. Unlike Python's, it memoizes only what is used
// again.
//
// Where protocol 2 falls short (NEWOBJ_EX, a set in a cycle, text beyond 4 GiB) it uses opcodes of protocol 4, which
// Python obeys all the same; torch.load(weights_only=True) and torch::pickle_load refuse such objects in any form.
// Threads: any number may write one graph. Errors: ValueError for a graph that no steps could make,
// UnsupportedError for one that this cannot write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec/object.h"

namespace ckptio::detail {

struct WrittenPickle {
  std::string bytes;
  // Which storage of the graph has which key: storage_order[k] is the index of the one written as str(k), in the order
  // of first reference. Storages that nothing refers to are left out.
  std::vector<std::uint32_t> storage_order;
};

WrittenPickle write_pickle(const ObjectGraph& graph, const Object& root);

}  // namespace ckptio::detail
