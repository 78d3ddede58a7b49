// SPDX-License-Identifier: Apache-2.0
#include "formats/storage_mapper.h"

#include <ATen/ATen.h>

#include "value/replace_storages.h"

namespace ckptio::detail {

void map_storages(Value& value, const MapLocation& map_location, const std::vector<std::string>& locations) {
  if (map_location.is_none()) return;
  std::size_t number = 0;
  replace_storages(
      value,
      [&](const c10::Storage& storage) {
        const std::size_t i = number++;
        return map_location.map(storage, i < locations.size() ? locations[i] : "cpu");
      },
      [&](const at::Tensor& tensor) {
        const auto device = map_location.device_for("cpu");
        return device ? tensor.to(*device) : tensor;
      });
}

}  // namespace ckptio::detail
