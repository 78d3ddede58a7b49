// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "ckptio/map_location.h"
#include "ckptio/value.h"

namespace ckptio::detail {

// Moves every tensor in `value`, all on the CPU, as `map_location` says. `locations`: where each storage was, in the
// order of first appearance; "cpu" for those beyond its end. Tensors of no plain storage follow a rule that is one
// device, and stay under the others.
void map_storages(Value& value, const MapLocation& map_location, const std::vector<std::string>& locations);

}  // namespace ckptio::detail
