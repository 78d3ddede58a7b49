// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "ckptio/value.h"

namespace ckptio::detail {

// Takes out the tensors and storages of `checkpoint` to which `filter` says false: entries of dicts go, in lists and
// tuples None stands in their place. The name: keys and indices, joined by dots.
void filter_tensors(Value& checkpoint, const std::function<bool(const std::string& name)>& filter);

// The same filter, which is asked once for each name however often this one is.
std::function<bool(const std::string& name)> asking_once(std::function<bool(const std::string& name)> filter);

}  // namespace ckptio::detail
