// SPDX-License-Identifier: Apache-2.0
#include "formats/tensor_writer.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace ckptio::detail {

namespace {

constexpr std::size_t kGatherBytes = 1 << 20;   // appended at once
constexpr std::size_t kSmallBytes = 256 << 10;  // what is copied into them; larger ones are appended by themselves
constexpr std::int64_t kPieceBytes = 8 << 20;   // of a tensor that must be copied first

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

}  // namespace

void TensorWriter::append(const void* data, std::size_t n_bytes) {
  if (n_bytes == 0) return;
  if (gathered_.size() + n_bytes > kGatherBytes) flush();
  if (n_bytes >= kSmallBytes) {
    flush();
    file_.append(data, n_bytes);
  } else {
    const char* begin = static_cast<const char*>(data);
    gathered_.insert(gathered_.end(), begin, begin + n_bytes);
  }
}

void TensorWriter::append(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.detach();
  if (plain.is_conj() || plain.is_neg()) return append_pieces(plain);
  append_pieces(as_integers(plain));
}

void TensorWriter::append_pieces(const at::Tensor& tensor) {
  const std::int64_t n_bytes = tensor.numel() * static_cast<std::int64_t>(tensor.element_size());
  if (n_bytes == 0) return;
  const bool is_lazy = tensor.is_conj() || tensor.is_neg();
  if (tensor.is_cpu() && tensor.is_contiguous() && !is_lazy) {
    return append(tensor.const_data_ptr(), static_cast<std::size_t>(n_bytes));
  }
  if (n_bytes <= kPieceBytes || tensor.dim() == 0) {
    const at::Tensor copy = tensor.resolve_conj().resolve_neg().contiguous().cpu();
    return append(copy.const_data_ptr(), static_cast<std::size_t>(n_bytes));
  }
  if (tensor.size(0) == 1) return append_pieces(tensor.select(0, 0));
  const std::int64_t n_rows = std::max<std::int64_t>(kPieceBytes / (n_bytes / tensor.size(0)), 1);
  for (std::int64_t row = 0; row < tensor.size(0); row += n_rows) {
    append_pieces(tensor.narrow(0, row, std::min(n_rows, tensor.size(0) - row)));
  }
}

void TensorWriter::flush() {
  if (!gathered_.empty()) file_.append(gathered_.data(), gathered_.size());
  gathered_.clear();
}

}  // namespace ckptio::detail
