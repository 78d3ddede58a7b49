// SPDX-License-Identifier: Apache-2.0
// The operators of the stand-in accelerator: those that every backend of LibTorch must have. All others are done by the
// CPU's, on copies.
#include <ATen/ATen.h>
#include <ATen/CPUFunctions.h>
#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <ATen/native/CPUFallback.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <stdexcept>

#include "support/stand_in/stand_in_device.h"

namespace ckptio::test {
namespace {

constexpr c10::DispatchKeySet kKey(c10::DispatchKey::PrivateUse1);

at::Tensor empty(c10::IntArrayRef sizes, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
                 std::optional<c10::Device> device, std::optional<bool>, std::optional<c10::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(sizes, &StandIn::get().memory, kKey, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides, std::optional<c10::ScalarType> dtype,
                         std::optional<c10::Layout>, std::optional<c10::Device> device, std::optional<bool>) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(sizes, strides, &StandIn::get().memory, kKey, c10::dtype_or_default(dtype));
}

const at::Tensor& resize(const at::Tensor& self, c10::IntArrayRef sizes, std::optional<c10::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(self.device());
  return at::native::resize_(self, sizes, format);
}

at::Tensor& set_to_storage(at::Tensor& self, at::Storage storage) { return at::cpu::set_(self, std::move(storage)); }

at::Tensor& set_to_view(at::Tensor& self, at::Storage storage, std::int64_t offset, c10::IntArrayRef sizes,
                        c10::IntArrayRef strides) {
  return at::cpu::set_(self, std::move(storage), offset, sizes, strides);
}

// The same elements for the CPU's operators. Keeps nothing alive, as nothing does that a real device works on.
at::Tensor elements_of(const at::Tensor& tensor) {
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

// On the device's stream; waited for where the CPU's side is not pinned, or nobody wants to go on meanwhile.
at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (to.numel() == 0) return to;
  StandIn& stand_in = StandIn::get();
  const bool to_cpu = to.is_cpu(), from_cpu = from.is_cpu();
  const c10::Device device = to_cpu ? from.device() : to.device();
  TORCH_CHECK(device.index() != stand_in.refusing_device, "stand-in: no copies from here");
  const bool is_pinned = stand_in.pinned.contains(to_cpu ? to.data_ptr() : from.data_ptr());
  const bool is_async = (!to_cpu && !from_cpu) || (non_blocking && is_pinned);
  WorkStream& stream = stand_in.current_stream(device);
  stream.enqueue([&stand_in, from = elements_of(from), to = elements_of(to), to_cpu, passes_gate = to_cpu && is_async] {
    if (passes_gate) stand_in.copies.pass();
    if (to_cpu && stand_in.fails_to_copy) throw std::runtime_error("stand-in: uncorrectable error in memory");
    to.copy_(from);
  });
  if (!is_async) {
    c10::impl::VirtualGuardImpl guard(c10::DeviceType::PrivateUse1);
    guard.synchronizeStream(guard.getStream(device));
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const at::Tensor& self) { return self.cpu().item(); }

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { at::native::cpu_fallback(op, stack); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage", set_to_storage);
  m.impl("set_.source_Storage_storage_offset", set_to_view);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

}  // namespace
}  // namespace ckptio::test
