// SPDX-License-Identifier: Apache-2.0
#include "support/stand_in/stand_in_device.h"

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <exception>

namespace ckptio::test {

namespace {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;

// Each thread has its own.
struct Current {
  c10::DeviceIndex device = 0;
  std::array<c10::StreamId, StandIn::kDevices> streams{};
};
Current& current() {
  thread_local Current here;
  return here;
}

using SharedMark = std::shared_ptr<Mark>;  // what LibTorch's events point to
SharedMark& mark_of(void* event) { return *static_cast<SharedMark*>(event); }

// As a device's runtime reports what failed on the device.
template <class Wait>
void waiting(Wait wait) {
  try {
    wait();
  } catch (const std::exception& error) {
    TORCH_CHECK(false, error.what());
  }
}

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {kType, current().device}; }
  void setDevice(c10::Device device) const override { uncheckedSetDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) current().device = device.index();
  }
  c10::DeviceIndex deviceCount() const noexcept override { return StandIn::kDevices; }

  c10::Stream getStream(c10::Device device) const override {
    const c10::DeviceIndex index = device.has_index() ? device.index() : current().device;
    return c10::Stream(c10::Stream::UNSAFE, {kType, index}, current().streams.at(index));
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    TORCH_CHECK(StandIn::get().has_pool, "stand-in: no streams but one");
    static std::atomic<c10::StreamId> next = 0;
    return c10::Stream(c10::Stream::UNSAFE, device, 1 + next++ % (StandIn::kStreams - 1));
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = getStream(stream.device());
    current().streams.at(stream.device_index()) = stream.id();
    return before;
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    waiting([&] { StandIn::get().stream(stream).synchronize(); });
  }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = std::make_unique<SharedMark>().release();
    mark_of(*event) = StandIn::get().stream(stream).record();
  }
  void block(void* event, const c10::Stream& stream) const override {
    StandIn::get().stream(stream).wait_for(mark_of(event));
  }
  bool queryEvent(void* event) const override { return mark_of(event)->is_set(); }
  void synchronizeEvent(void* event) const override {
    waiting([&] { mark_of(event)->wait(); });
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    const std::unique_ptr<SharedMark> mark(static_cast<SharedMark*>(event));
  }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    StandIn::get().memory.note_use(data, StandIn::get().stream(stream));
  }
};

struct Hooks final : public at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return StandIn::kDevices; }
  bool isPinnedPtr(const void* data) const override { return StandIn::get().pinned.contains(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    TORCH_CHECK(StandIn::get().has_pinned_memory, "stand-in: no pinned memory");
    return &StandIn::get().pinned;
  }
};

}  // namespace

StandIn::StandIn() : memory([] { return device(current().device); }) {
  c10::register_privateuse1_backend("stand_in");
  c10::SetAllocator(kType, &memory);
  static const Guard guard;
  const c10::impl::DeviceGuardImplRegistrar registrar(kType, &guard);
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
}

StandIn& StandIn::get() {
  static StandIn stand_in;
  return stand_in;
}

WorkStream& StandIn::current_stream(const c10::Device& device) {
  return streams_.at(device.index()).at(current().streams.at(device.index()));
}

}  // namespace ckptio::test
