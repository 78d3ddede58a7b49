// SPDX-License-Identifier: Apache-2.0
// Where in a checkpoint its tensors are: "state_dict['fc.weight']". Threads: safe.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "codec/object.h"

namespace ckptio::cli {

// Every tensor below `root` once, in the order of the tree, with the path to it; parts of sparse and quantized tensors
// have that of the whole. The path of `root` is `name`.
std::vector<std::pair<std::string, const detail::ObjectTensor*>> tensor_paths(const detail::Object& root,
                                                                              const std::string& name = "checkpoint");

}  // namespace ckptio::cli
