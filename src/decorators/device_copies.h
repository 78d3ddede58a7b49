// SPDX-License-Identifier: Apache-2.0
// DeviceCopies: copies storages of accelerators to pinned memory, beside the devices' other work. A copy comes after
// what the calling thread's current stream of the device was given before; nothing waits for it but wait().
//
// By LibTorch's interfaces that all accelerators have: on each device a stream of the pool waits for an event of the
// thread's current stream, copies, and ends with an event of its own.
// Threads: one at a time.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>

#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ckptio::detail {

// The IoError for what LibTorch threw in a save to `path`.
[[noreturn]] void throw_device_failure(const std::string& path, const c10::Device& device, const std::exception& error);

struct DeviceCopy {
  const c10::Storage* from = nullptr;
  char* to = nullptr;
};

class DeviceCopies {
 public:
  // `path`: of the checkpoint, for messages.
  explicit DeviceCopies(std::string path) : path_(std::move(path)) {}
  DeviceCopies(const DeviceCopies&) = delete;
  DeviceCopies& operator=(const DeviceCopies&) = delete;
  // Returns when nothing is being copied.
  ~DeviceCopies();

  // True for devices that can do this: that have streams, events, and pinned memory. What the device was given before
  // the first time comes before the copies.
  bool can_copy(const c10::Device& device);

  // Once. Requires: can_copy() of all devices. Storages may be freed or given other memory before the copies end, what
  // they are copied to may not. IoError where a device refuses.
  void begin(const std::vector<DeviceCopy>& copies);
  // Returns when all is copied. IoError where a device failed.
  void wait();

 private:
  struct Lane {
    c10::Device device;
    std::optional<c10::Stream> stream;  // none: the device can't
    bool is_copying = false;
    std::optional<c10::Event> end;
  };

  Lane& lane_of(const c10::Device& device);
  void copy(const DeviceCopy& copy);

  const std::string path_;
  std::vector<Lane> lanes_;
};

}  // namespace ckptio::detail
