// SPDX-License-Identifier: Apache-2.0
#include "codec/refuse_opaque.h"

#include <algorithm>

#include "ckptio/error.h"

namespace ckptio::detail {

namespace {

// How many names and places the message lists.
constexpr std::size_t kMaxListed = 100;

}  // namespace

void refuse_opaque(const ObjectGraph& graph, const std::string& path) {
  std::vector<std::string> found;
  const std::vector<OpaquePlace> places = find_opaque(graph.root);
  for (const OpaquePlace& place : places) found.push_back(place.global + " at " + place.path);
  for (const UnknownGlobal& global : graph.unknown_globals) {
    const bool is_placed = std::any_of(places.begin(), places.end(),
                                       [&global](const OpaquePlace& place) { return place.global == global.name; });
    if (!is_placed) {
      found.push_back(global.name + " (byte " + std::to_string(global.offset) + " of the pickle)");
    }
  }
  if (found.empty()) return;
  std::string message = "'" + path + "': refused, as it holds more than tensors and primitive values (weights_only): ";
  for (std::size_t i = 0; i < std::min(found.size(), kMaxListed); ++i) message += (i == 0 ? "" : "; ") + found[i];
  if (found.size() > kMaxListed) message += "; ... (" + std::to_string(found.size()) + " in all)";
  throw UnsafeError(message);
}

}  // namespace ckptio::detail
