// SPDX-License-Identifier: Apache-2.0
#include "decorators/device_copies.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "ckptio/error.h"
#include "decorators/pinned_buffer.h"
#include "value/tensor_storage.h"
#include "value/torch_reason.h"

namespace ckptio::detail {

namespace {

// A stream of the device's pool that waits for the thread's work on the device; nullopt if it has no such thing.
std::optional<c10::Stream> side_stream(const c10::Device& device) {
  try {
    if (at::getAccelerator() != device.type() || pinned_allocator() == nullptr) return std::nullopt;
    const c10::impl::VirtualGuardImpl guard(device.type());
    const c10::Stream side = guard.getStreamFromGlobalPool(device);
    c10::Event now(device.type());
    now.record(guard.getStream(device));
    now.block(side);
    return side;
  } catch (const std::exception&) {  // how backends say that they don't support it
    return std::nullopt;
  }
}

}  // namespace

void throw_device_failure(const std::string& path, const c10::Device& device, const std::exception& error) {
  throw IoError("cannot save '" + path + "': copying tensors from device '" + device.str() +
                "' to the CPU failed: " + torch_reason(error));
}

DeviceCopies::~DeviceCopies() {
  for (const Lane& lane : lanes_) {
    try {
      if (lane.is_copying) lane.stream->synchronize();
    } catch (const std::exception&) {  // a device that failed copies nothing more
    }
  }
}

DeviceCopies::Lane& DeviceCopies::lane_of(const c10::Device& device) {
  const auto known =
      std::find_if(lanes_.begin(), lanes_.end(), [&](const Lane& lane) { return lane.device == device; });
  if (known != lanes_.end()) return *known;
  return lanes_.emplace_back(Lane{device, side_stream(device), false, std::nullopt});
}

bool DeviceCopies::can_copy(const c10::Device& device) { return lane_of(device).stream.has_value(); }

void DeviceCopies::begin(const std::vector<DeviceCopy>& copies) {
  for (const DeviceCopy& each : copies) copy(each);
  for (Lane& lane : lanes_) {
    if (!lane.is_copying) continue;
    try {
      lane.end.emplace(lane.device.type()).record(*lane.stream);
    } catch (const std::exception& error) {
      throw_device_failure(path_, lane.device, error);
    }
  }
}

// The allocator must know of the other stream, too: a storage may be given other memory while it still reads the old.
void DeviceCopies::copy(const DeviceCopy& copy) {
  const auto n_bytes = static_cast<std::int64_t>(copy.from->nbytes());
  if (n_bytes == 0) return;
  const c10::Device device = copy.from->device();
  Lane& lane = lane_of(device);
  try {
    const c10::StreamGuard guard(*lane.stream);
    lane.is_copying = true;
    at::from_blob(copy.to, {n_bytes}, at::kByte).copy_(bytes_of(*copy.from), /*non_blocking=*/true);
    c10::impl::VirtualGuardImpl(device.type()).recordDataPtrOnStream(copy.from->data_ptr(), *lane.stream);
  } catch (const std::exception& error) {
    throw_device_failure(path_, device, error);
  }
}

void DeviceCopies::wait() {
  for (const Lane& lane : lanes_) {
    try {
      if (lane.end) lane.end->synchronize();
    } catch (const std::exception& error) {
      throw_device_failure(path_, lane.device, error);
    }
  }
  lanes_.clear();
}

}  // namespace ckptio::detail
