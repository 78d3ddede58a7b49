// SPDX-License-Identifier: Apache-2.0
#include "formats/object_tensor.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ckptio/error.h"
#include "ckptio/verify.h"
#include "formats/torch_types.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

using Form = ObjectTensor::Form;
using PartFunction = std::function<at::Tensor(const Object& part)>;

const c10::Storage& storage_of(const ObjectTensor& from, const std::vector<c10::Storage>& storages) {
  const c10::Storage& storage = storages.at(from.storage);
  if (!storage) throw CorruptError("a tensor whose storage was not loaded");
  return storage;
}

at::Tensor make_dense(const ObjectTensor& from, const std::vector<c10::Storage>& storages) {
  at::Tensor tensor =
      make_view(storage_of(from, storages), to_scalar_type(from.dtype), from.offset, from.sizes, from.strides);
  if (from.conj) tensor._set_conj(true);
  if (from.neg) tensor._set_neg(true);
  return tensor;
}

at::Tensor make_sparse_coo(const ObjectTensor& from, const at::Tensor& indices, const at::Tensor& values) {
  if (!indices.is_meta()) at::_validate_sparse_coo_tensor_args(indices, values, from.sizes, from.is_coalesced);
  return at::_sparse_coo_tensor_unsafe(indices, values, from.sizes, values.options().layout(c10::kSparse),
                                       from.is_coalesced);
}

at::Tensor make_sparse_compressed(const ObjectTensor& from, const PartFunction& part) {
  const at::Tensor compressed = part(*from.parts.at(0));
  const at::Tensor plain = part(*from.parts.at(1));
  const at::Tensor values = part(*from.parts.at(2));
  const c10::Layout layout = to_layout(from.layout);
  if (!plain.is_meta()) at::_validate_sparse_compressed_tensor_args(compressed, plain, values, from.sizes, layout);
  return at::_sparse_compressed_tensor_unsafe(compressed, plain, values, from.sizes, values.options().layout(layout));
}

at::Tensor make_quantized(const ObjectTensor& from, const std::vector<c10::Storage>& storages,
                          const PartFunction& part) {
  const c10::Storage& storage = storage_of(from, storages);
  const auto options = at::TensorOptions(to_scalar_type(from.dtype)).device(storage.device());
  at::Tensor tensor;
  if (from.qscheme == QSchemeKind::per_tensor_affine) {
    tensor = at::_empty_affine_quantized({0}, options, from.scale, from.zero_point);
  } else {
    const at::Tensor scales = part(*from.parts.at(0));
    const at::Tensor zero_points = part(*from.parts.at(1));
    const auto n_dims = static_cast<std::int64_t>(from.sizes.size());
    if (from.axis < 0 || from.axis >= n_dims || scales.dim() != 1 ||
        scales.numel() != from.sizes[static_cast<std::size_t>(from.axis)] || zero_points.sizes() != scales.sizes()) {
      throw CorruptError("scales or zero points that do not fit the quantized tensor");
    }
    // All dimensions but that of the scales are empty: the memory comes with the storage.
    std::vector<std::int64_t> sizes(from.sizes.size(), 0);
    sizes[static_cast<std::size_t>(from.axis)] = scales.numel();
    tensor = at::_empty_per_channel_affine_quantized(sizes, scales, zero_points, from.axis, options);
  }
  return tensor.set_(storage, from.offset, from.sizes, from.strides);
}

// A 2-dimensional table of int64 on the CPU.
bool is_index_table(const at::Tensor& tensor, std::int64_t n_dims) {
  return tensor.scalar_type() == at::kLong && tensor.dim() == n_dims && tensor.device().is_cpu() &&
         tensor.layout() == c10::kStrided;
}

at::Tensor make_nested(const ObjectTensor& from, const PartFunction& part) {
  const at::Tensor buffer = part(*from.parts.at(0));
  if (buffer.is_meta()) throw UnsupportedError("a nested tensor cannot be put on the meta device");
  // Wherever the items are, their sizes are on the CPU.
  const at::Tensor sizes = part(*from.parts.at(1)).cpu().contiguous();
  const at::Tensor strides = part(*from.parts.at(2)).cpu().contiguous();
  const at::Tensor offsets = part(*from.parts.at(3)).cpu().contiguous();
  if (!is_index_table(sizes, 2) || !is_index_table(strides, 2) || !is_index_table(offsets, 1) ||
      sizes.sizes() != strides.sizes() || offsets.size(0) != sizes.size(0) || buffer.dim() != 1 ||
      !buffer.is_contiguous()) {
    throw CorruptError("sizes, strides and offsets that do not describe a nested tensor");
  }
  const auto n_dims = static_cast<std::size_t>(sizes.size(1));
  const auto room = static_cast<std::size_t>(buffer.numel());
  for (std::int64_t i = 0; i < sizes.size(0); ++i) {
    const auto first = static_cast<std::size_t>(i) * n_dims;
    const c10::IntArrayRef item_sizes(sizes.const_data_ptr<std::int64_t>() + first, n_dims);
    const c10::IntArrayRef item_strides(strides.const_data_ptr<std::int64_t>() + first, n_dims);
    const auto needed = bytes_needed(item_sizes, item_strides, offsets.const_data_ptr<std::int64_t>()[i], 1);
    std::int64_t n_items = 1;
    const bool overflows = std::any_of(item_sizes.begin(), item_sizes.end(), [&n_items](std::int64_t size) {
      return __builtin_mul_overflow(n_items, size, &n_items);
    });
    if (!needed || *needed > room || overflows) {
      throw CorruptError("item " + std::to_string(i) + " of a nested tensor is outside of its buffer of " +
                         std::to_string(room) + " elements");
    }
  }
  return at::_nested_view_from_buffer(buffer, sizes, strides, offsets);
}

at::Tensor make(const ObjectTensor& from, const std::vector<c10::Storage>& storages, const PartFunction& get_part) {
  // Their contents are read here.
  const PartFunction part = [&get_part](const Object& object) {
    at::Tensor found = get_part(object);
    verify(found);
    return found;
  };
  switch (from.form) {
    case Form::meta:
      return at::empty_strided(from.sizes, from.strides,
                               at::TensorOptions(to_scalar_type(from.dtype)).device(c10::kMeta));
    case Form::sparse_coo:
      return make_sparse_coo(from, part(*from.parts.at(0)), part(*from.parts.at(1)));
    case Form::sparse_compressed:
      return make_sparse_compressed(from, part);
    case Form::quantized:
      return make_quantized(from, storages, part);
    case Form::nested:
      return make_nested(from, part);
    default:
      return make_dense(from, storages);
  }
}

Dims to_dims(c10::IntArrayRef numbers) { return {numbers.data(), numbers.size()}; }

bool is_column_compressed(c10::Layout layout) { return layout == c10::kSparseCsc || layout == c10::kSparseBsc; }

}  // namespace

at::Tensor make_tensor(const ObjectTensor& description, const std::vector<c10::Storage>& storages,
                       const PartFunction& part) {
  if (description.form == Form::dense && !description.requires_grad && !description.conj && !description.neg) {
    return make_dense(description, storages);
  }
  const at::NoGradGuard no_grad;
  at::Tensor tensor = make(description, storages, part);
  if (description.requires_grad) tensor.set_requires_grad(true);
  return tensor;
}

namespace {

using StorageFunction = std::function<std::uint32_t(const c10::Storage& storage, DType dtype)>;

// No operator of LibTorch is called: thousands of tensors would spend their time in its dispatcher.
void describe_view(const at::Tensor& tensor, ObjectTensor& to, const StorageFunction& storage_of) {
  to.sizes = to_dims(tensor.sizes());
  to.strides = to_dims(tensor.strides());
  if (tensor.is_meta()) {
    to.form = Form::meta;
    return;
  }
  if (!tensor.has_storage()) throw TypeError("a tensor without a storage has no form in a file");
  if (const std::string why = why_no_memory(tensor); !why.empty()) throw ValueError(why);
  to.storage = storage_of(tensor.storage(), to.dtype);
  to.offset = tensor.storage_offset();
  to.conj = tensor.is_conj();
  to.neg = tensor.is_neg();
}

}  // namespace

void describe_tensor(const at::Tensor& given, ObjectTensor& to, const StorageFunction& storage_of,
                     const std::function<Object*(const at::Tensor& part)>& part) {
  to.dtype = to_dtype(given.scalar_type());
  to.requires_grad = given.requires_grad();
  const bool is_nested = given.is_nested();
  if (given.layout() == c10::kStrided && !is_nested && !given.is_quantized()) {
    return describe_view(given, to, storage_of);
  }
  const at::NoGradGuard no_grad;
  const at::Tensor tensor = given.detach();
  if (is_nested && tensor.layout() == c10::kStrided) {
    to.form = Form::nested;
    to.parts = {part(tensor.values()), part(tensor._nested_tensor_size()), part(tensor._nested_tensor_strides()),
                part(tensor._nested_tensor_storage_offsets())};
    return;
  }
  const auto layout = to_layout_kind(tensor.layout());
  if (!layout || *layout == LayoutKind::mkldnn) throw TypeError("tensors of this layout have no form in a file");
  to.layout = *layout;
  if (*layout == LayoutKind::sparse_coo) {
    to.form = Form::sparse_coo;
    to.sizes = to_dims(tensor.sizes());
    to.is_coalesced = tensor.is_coalesced();
    to.parts = {part(tensor._indices()), part(tensor._values())};
    return;
  }
  if (*layout != LayoutKind::strided) {
    to.form = Form::sparse_compressed;
    to.sizes = to_dims(tensor.sizes());
    const bool columns = is_column_compressed(tensor.layout());
    to.parts = {part(columns ? tensor.ccol_indices() : tensor.crow_indices()),
                part(columns ? tensor.row_indices() : tensor.col_indices()), part(tensor.values())};
    return;
  }
  describe_view(tensor, to, storage_of);
  if (to.form == Form::meta) return;
  to.form = Form::quantized;
  to.qscheme = static_cast<QSchemeKind>(tensor.qscheme());
  if (to.qscheme == QSchemeKind::per_tensor_affine) {
    to.scale = tensor.q_scale();
    to.zero_point = tensor.q_zero_point();
  } else {
    to.axis = tensor.q_per_channel_axis();
    to.parts = {part(tensor.q_per_channel_scales()), part(tensor.q_per_channel_zero_points())};
  }
}

}  // namespace ckptio::detail
