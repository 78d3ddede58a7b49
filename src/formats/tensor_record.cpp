// SPDX-License-Identifier: Apache-2.0
#include "formats/tensor_record.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "ckptio/error.h"

namespace ckptio::detail {

namespace {

// LibTorch copies up to 32,767 elements on the thread that asks, and hands more to its own threads, which are the
// training's.
constexpr std::size_t kMostElementsOnCpu = std::size_t{16} << 10;

// As integers of the same size, which every operator takes; some dtypes have next to none.
at::Tensor as_integers(const at::Tensor& tensor) {
  switch (tensor.element_size()) {
    case 1:
      return tensor.view(at::kByte);
    case 2:
      return tensor.view(at::kShort);
    case 4:
      return tensor.view(at::kInt);
    case 8:
      return tensor.view(at::kLong);
    default:
      return tensor;
  }
}

// Copies the elements [begin, end) of `tensor`, counted in the order of its indices, to `destination`.
void copy_elements(const at::Tensor& tensor, std::int64_t begin, std::int64_t end, unsigned char* destination) {
  if (begin >= end) return;
  if (begin == 0 && end == tensor.numel()) {
    at::from_blob(destination, tensor.sizes(), tensor.options().device(at::kCPU)).copy_(tensor);
    return;
  }
  const std::int64_t row_size = tensor.numel() / tensor.size(0);
  const std::int64_t first_whole = (begin + row_size - 1) / row_size, last_whole = end / row_size;
  const auto at = [&](std::int64_t element) {
    return destination + (element - begin) * static_cast<std::int64_t>(tensor.element_size());
  };
  if (first_whole > last_whole) {  // inside one row
    const std::int64_t row = last_whole * row_size;
    return copy_elements(tensor.select(0, last_whole), begin - row, end - row, destination);
  }
  const std::int64_t whole_begin = first_whole * row_size, whole_end = last_whole * row_size;
  if (begin < whole_begin) {
    copy_elements(tensor.select(0, first_whole - 1), begin - (whole_begin - row_size), row_size, destination);
  }
  if (first_whole < last_whole) {
    const at::Tensor rows = tensor.narrow(0, first_whole, last_whole - first_whole);
    copy_elements(rows, 0, rows.numel(), at(whole_begin));
  }
  if (whole_end < end) copy_elements(tensor.select(0, last_whole), 0, end - whole_end, at(whole_end));
}

// The engine cuts at bytes: the elements at both ends may be there in part.
void copy_bytes(const at::Tensor& tensor, std::uint64_t begin, unsigned char* destination, std::size_t n_bytes) {
  const c10::NoGradGuard no_grad;
  const std::size_t n_most = kMostElementsOnCpu * tensor.element_size();
  if (tensor.is_cpu() && n_bytes > n_most) {
    for (std::size_t done = 0; done < n_bytes; done += n_most) {
      copy_bytes(tensor, begin + done, destination + done, std::min(n_most, n_bytes - done));
    }
    return;
  }
  const std::uint64_t item = tensor.element_size(), end = begin + n_bytes;
  const std::uint64_t first = begin / item, last = (end + item - 1) / item;
  if (first * item == begin && last * item == end && reinterpret_cast<std::uintptr_t>(destination) % item == 0) {
    return copy_elements(tensor, static_cast<std::int64_t>(first), static_cast<std::int64_t>(last), destination);
  }
  std::vector<unsigned char> whole((last - first) * item);
  copy_elements(tensor, static_cast<std::int64_t>(first), static_cast<std::int64_t>(last), whole.data());
  std::memcpy(destination, whole.data() + (begin - first * item), n_bytes);
}

// What was asked of the device before, by this thread; others fill records on streams of their own.
void wait_for(const c10::Device& device) {
  if (device.is_cpu() || !c10::impl::hasDeviceGuardImpl(device.type())) return;
  c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
}

}  // namespace

void require_memory(const c10::Storage& storage) {
  if (storage.nbytes() == 0 || !storage.device().is_cpu() || storage.data() != nullptr) return;
  throw ValueError("a tensor of " + std::to_string(storage.nbytes()) +
                   " bytes has no memory: its elements cannot be saved");
}

void set_data(WriteRecord& record, const at::Tensor& tensor) {
  const bool is_lazy = tensor.is_conj() || tensor.is_neg();
  record.n_bytes = static_cast<std::uint64_t>(tensor.numel()) * tensor.element_size();
  if (record.n_bytes == 0) return;
  require_memory(tensor.storage());
  wait_for(tensor.device());
  if (tensor.is_cpu() && tensor.is_contiguous() && !is_lazy) {
    record.data = tensor.const_data_ptr();
    return;
  }
  at::Tensor plain = tensor.detach();
  if (!is_lazy) plain = as_integers(plain);
  record.fill = [plain](std::uint64_t begin, void* destination, std::size_t n_bytes) {
    copy_bytes(plain, begin, static_cast<unsigned char*>(destination), n_bytes);
  };
}

}  // namespace ckptio::detail
