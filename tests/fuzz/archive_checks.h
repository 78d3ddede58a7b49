// SPDX-License-Identifier: Apache-2.0
// What must hold of everything that an Archive gives, whatever file it was opened on.
#pragma once

#include "codec/archive.h"

namespace ckptio::test {

// Every tensor within its storage, every reference to an object of the graph. Requires nothing of the graph.
void check_graph(const detail::ObjectGraph& graph);

// The same, and every storage read in all the ways there are, which must agree. A storage that is refused is fine.
void check_archive(const detail::Archive& archive);

}  // namespace ckptio::test
