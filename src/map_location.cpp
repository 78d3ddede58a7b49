// SPDX-License-Identifier: Apache-2.0
#include "ckptio/map_location.h"

#include <ATen/ATen.h>

#include "value/mapped_record.h"
#include "value/tensor_storage.h"
#include "value/torch_reason.h"

namespace ckptio {

namespace {

c10::Storage move_to(const c10::Storage& storage, const c10::Device& device) {
  if (storage.device() == device) return storage;
  detail::verify_storage(storage);
  try {
    return detail::bytes_of(storage).to(device).storage();
  } catch (const std::exception& error) {  // c10::Error, or what a backend that is not there throws
    throw UnsupportedError("map_location: tensors cannot be put on device '" + device.str() +
                           "' of this machine: " + detail::torch_reason(error));
  }
}

}  // namespace

c10::Device MapLocation::parse_device(const std::string& name) {
  try {
    return c10::Device(name);
  } catch (const c10::Error&) {
    throw ValueError("map_location: '" + name + "' is not the name of a device, such as 'cpu' or 'cuda:0'");
  }
}

MapLocation::Table MapLocation::make_table(std::initializer_list<std::pair<std::string, std::string>> table) {
  return Table(table.begin(), table.end());
}

std::optional<c10::Device> MapLocation::device_for(const std::string& location) const {
  if (is_none()) return c10::Device(c10::kCPU);
  if (const auto* device = std::get_if<c10::Device>(&rule_)) return *device;
  if (const auto* table = std::get_if<Table>(&rule_)) {
    const auto found = table->find(location);
    return parse_device(found == table->end() ? location : found->second);
  }
  return std::nullopt;
}

c10::Storage MapLocation::map(const c10::Storage& storage, const std::string& location) const {
  if (const auto device = device_for(location)) return move_to(storage, *device);
  detail::verify_storage(storage);  // the function may read it
  const auto answer = std::get<Function>(rule_)(storage, location);
  if (const auto* device = std::get_if<c10::Device>(&answer)) return move_to(storage, *device);
  const auto& given = std::get<c10::Storage>(answer);
  if (given.nbytes() < storage.nbytes()) {
    throw ValueError("map_location: the function gave a storage of " + std::to_string(given.nbytes()) +
                     " bytes for one of " + std::to_string(storage.nbytes()));
  }
  return given;
}

}  // namespace ckptio
