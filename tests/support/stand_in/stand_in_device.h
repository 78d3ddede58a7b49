// SPDX-License-Identifier: Apache-2.0
// StandIn: an accelerator for machines without one, made of threads, as PyTorch's device type PrivateUse1. It has two
// devices with streams that work in order and beside each other, events, a caching allocator, and pinned memory; all
// operators but copies are done by the CPU's. Once it is there it is there for the whole process, so tests that use it
// have an executable of their own.
// Threads: get() and what LibTorch calls from any; a test sets the rest while no device has work.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <array>
#include <atomic>
#include <functional>

#include "support/gate.h"
#include "support/stand_in/stand_in_memory.h"
#include "support/stand_in/work_stream.h"

namespace ckptio::test {

class StandIn {
 public:
  static constexpr c10::DeviceIndex kDevices = 2;
  static constexpr c10::StreamId kStreams = 4;  // of each device; 0 is the default, the others are the pool

  static StandIn& get();

  static c10::Device device(c10::DeviceIndex index = 0) {
    get();  // there is none before
    return {c10::DeviceType::PrivateUse1, index};
  }
  WorkStream& stream(const c10::Stream& stream) { return streams_.at(stream.device_index()).at(stream.id()); }
  // The calling thread's current stream of the device.
  WorkStream& current_stream(const c10::Device& device);

  // What the tests decide.
  Gate copies{true};  // passed by every copy to pinned memory, on the stream that makes it
  std::atomic<bool> has_pinned_memory = true, has_pool = true, fails_to_copy = false;
  std::atomic<c10::DeviceIndex> refusing_device = -1;  // begins no copy

  PinnedMemory pinned;
  DeviceMemory memory;

 private:
  StandIn();

  std::array<std::array<WorkStream, kStreams>, kDevices> streams_;
};

}  // namespace ckptio::test
