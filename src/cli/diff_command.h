// SPDX-License-Identifier: Apache-2.0
// ckptio diff: what differs between two checkpoints: keys, types, shapes, and values with the largest differences.
//
// Attributes of dicts, such as the _metadata of a module's state_dict, are compared where both have them.
// Values count, not how they are kept: strides, shared storages, requires_grad, the order of keys, dict or OrderedDict
// make no difference, so that files of different formats can be equal.
#pragma once

#include <string>

#include "cli/console.h"

namespace ckptio::cli {

struct DiffOptions {
  std::string a, b;
};

// kOk where nothing differs, else kDifferent.
int diff(const DiffOptions& options, Console& console);

}  // namespace ckptio::cli
