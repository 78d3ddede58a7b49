// SPDX-License-Identifier: Apache-2.0
// torch's functions that rebuild tensors, as descriptions: no memory is set aside, every number is checked.
#include <algorithm>
#include <limits>
#include <span>

#include "codec/known_globals.h"

namespace ckptio::detail {
namespace {

constexpr std::int64_t kMaxInt64 = std::numeric_limits<std::int64_t>::max();

// The arguments of one call, by position.
class Arguments {
 public:
  Arguments(GraphBuilder& builder, const std::vector<Object*>& items, std::size_t min, std::size_t max)
      : builder_(builder), items_(items) {
    if (items.size() >= min && items.size() <= max) return;
    builder.fail(std::to_string(items.size()) + " arguments found, " + std::to_string(min) +
                 (max > min ? " to " + std::to_string(max) : "") + " expected");
  }

  bool has(std::size_t i) const { return i < items_.size() && !items_[i]->is<ObjectNone>(); }
  Object* object(std::size_t i) const { return items_[i]; }

  template <class T>
  const T& get(std::size_t i, const char* what) const {
    const T* value = items_[i]->get<T>();
    if (value == nullptr) fail(i, what);
    return *value;
  }

  // Zero or more integers, none negative, in a tuple (torch.Size too) or list.
  Dims integers(std::size_t i, const char* what) const {
    const auto* tuple = items_[i]->get<ObjectTuple>();
    const auto* list = items_[i]->get<ObjectList>();
    if (tuple == nullptr && list == nullptr) fail(i, what);
    const std::vector<Object*>& items = tuple != nullptr ? tuple->items : list->items;
    if (items.size() > kMaxTensorDims) {
      builder_.fail(std::to_string(items.size()) + " dimensions found, at most " + std::to_string(kMaxTensorDims) +
                    " expected");
    }
    Dims values;
    values.reserve(items.size());
    for (const Object* item : items) {
      const auto* value = item->get<std::int64_t>();
      if (value == nullptr || *value < 0) {
        builder_.fail(describe_object(*item) + " found in the " + what + ", integers from 0 on expected");
      }
      values.push_back(*value);
    }
    return values;
  }

  const ObjectTensor& tensor(std::size_t i, const char* what) const { return get<ObjectTensor>(i, what); }

  [[noreturn]] void fail(std::size_t i, const char* what) const {
    builder_.fail(describe_object(*items_[i]) + " found as argument " + std::to_string(i) + ", the " + what +
                  " expected");
  }

 private:
  GraphBuilder& builder_;
  const std::vector<Object*>& items_;
};

std::string list_of(std::span<const std::int64_t> values) {
  std::string text = "[";
  for (const std::int64_t value : values) text += (text.size() > 1 ? ", " : "") + std::to_string(value);
  return text + "]";
}

// Product of the sizes, zeros left out: what code that goes by a zero at the end may come by, too.
std::int64_t checked_product(GraphBuilder& builder, std::span<const std::int64_t> sizes, std::uint64_t n_item) {
  std::int64_t product = 1;
  for (const std::int64_t size : sizes) {
    if (size != 0 && __builtin_mul_overflow(product, size, &product)) product = kMaxInt64;
  }
  if (product > kMaxInt64 / static_cast<std::int64_t>(n_item)) {
    builder.fail("sizes " + list_of(sizes) + " found, whose product is too large for any memory");
  }
  return product;
}

bool has_zero(std::span<const std::int64_t> sizes) { return std::find(sizes.begin(), sizes.end(), 0) != sizes.end(); }

// How many elements a byte of a packed quantized tensor holds; the others have one or more bytes for each.
std::int64_t elements_per_item(DType dtype) { return dtype == DType::quint4x2 ? 2 : dtype == DType::quint2x4 ? 4 : 1; }

// The geometry on its own, then within its storage.
void check_geometry(GraphBuilder& builder, const ObjectTensor& tensor) {
  if (tensor.sizes.size() != tensor.strides.size()) {
    builder.fail(std::to_string(tensor.strides.size()) + " strides found, " + std::to_string(tensor.sizes.size()) +
                 " expected, one for each size");
  }
  const std::uint64_t n_item = item_size(tensor.dtype);
  checked_product(builder, tensor.sizes, n_item);
  std::int64_t last = tensor.offset;
  bool overflows = tensor.offset > kMaxInt64 / static_cast<std::int64_t>(n_item);
  if (!has_zero(tensor.sizes)) {
    for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
      std::int64_t extent = 0;
      overflows |= __builtin_mul_overflow(tensor.sizes[i] - 1, tensor.strides[i], &extent);
      overflows |= __builtin_add_overflow(last, extent, &last);
    }
  }
  const auto found = [&] {
    return "sizes " + list_of(tensor.sizes) + ", strides " + list_of(tensor.strides) + " and offset " +
           std::to_string(tensor.offset);
  };
  if (overflows) builder.fail(found() + " found, which leave the range of addresses");
  if (tensor.storage == ObjectTensor::kNoStorage || has_zero(tensor.sizes)) return;
  const std::uint64_t n_bytes = builder.graph().storages[tensor.storage].n_bytes;
  const auto n_items = static_cast<std::uint64_t>(last / elements_per_item(tensor.dtype)) + 1;
  if (n_items > n_bytes / n_item) {
    builder.fail(found() + " found, which need a storage of " + std::to_string(n_items) + " elements of " +
                 std::to_string(n_item) + " bytes; the storage has " + std::to_string(n_bytes) + " bytes");
  }
}

Object* make_tensor(GraphBuilder& builder, ObjectTensor tensor) {
  builder.charge((tensor.sizes.size() + tensor.strides.size() + tensor.parts.size()) * 8 + 64);
  return builder.make(std::move(tensor));
}

// None, or an OrderedDict: empty but for exotic files, so that null stands for an empty one.
Object* checked_hooks(GraphBuilder& builder, Object* hooks) {
  if (hooks->is<ObjectNone>()) return nullptr;
  const auto* dict = hooks->get<ObjectDict>();
  if (dict == nullptr || dict->type != DictType::ordered_dict) {
    builder.fail(describe_object(*hooks) + " found as a tensor's hooks, an OrderedDict expected");
  }
  return dict->items.empty() && dict->attributes == nullptr ? nullptr : hooks;
}

// The bits that a view of complex numbers has: {'conj': True}, {'neg': True}.
void set_metadata(GraphBuilder& builder, ObjectTensor& tensor, const Object* metadata) {
  const auto* dict = metadata->get<ObjectDict>();
  if (dict == nullptr) builder.fail(describe_object(*metadata) + " found as a tensor's metadata, a dict expected");
  for (const auto& [key, value] : dict->items) {
    const auto* name = key->get<ObjectString>();
    const auto* bit = value->get<bool>();
    const bool is_conj = name != nullptr && name->utf8 == "conj", is_neg = name != nullptr && name->utf8 == "neg";
    if (bit == nullptr || (!is_conj && !is_neg)) {
      builder.fail(describe_object(*key) + " found in a tensor's metadata, 'conj' or 'neg' expected");
    }
    (is_conj ? tensor.conj : tensor.neg) = *bit;
  }
  const bool is_complex =
      tensor.dtype == DType::complex32 || tensor.dtype == DType::complex64 || tensor.dtype == DType::complex128;
  if (tensor.conj && !is_complex) {
    builder.fail("a conjugate bit found on " + std::string(dtype_name_of(tensor.dtype)) + ", a complex type expected");
  }
}

DType typed_storage_dtype(GraphBuilder& builder, std::uint32_t storage) {
  const auto dtype = builder.storage_dtype({storage});
  if (!dtype) builder.fail("a storage of no type found, a typed one expected");
  return *dtype;
}

// (storage, offset, size, stride), which all dense tensors begin with.
ObjectTensor dense_part(GraphBuilder& builder, const Arguments& args, std::optional<DType> dtype) {
  ObjectTensor tensor;
  tensor.storage = args.get<ObjectStorage>(0, "storage").storage;
  tensor.dtype = dtype ? *dtype : typed_storage_dtype(builder, tensor.storage);
  tensor.offset = args.get<std::int64_t>(1, "storage offset");
  if (tensor.offset < 0)
    builder.fail("the storage offset " + std::to_string(tensor.offset) + " found, 0 or more expected");
  tensor.sizes = args.integers(2, "sizes");
  tensor.strides = args.integers(3, "strides");
  check_geometry(builder, tensor);
  return tensor;
}

bool is_quantized(DType dtype) {
  return dtype == DType::qint8 || dtype == DType::quint8 || dtype == DType::qint32 || dtype == DType::quint4x2 ||
         dtype == DType::quint2x4;
}

void refuse_quantized(GraphBuilder& builder, const ObjectTensor& tensor) {
  if (!is_quantized(tensor.dtype)) return;
  builder.fail("a quantized type (" + std::string(dtype_name_of(tensor.dtype)) + ") without its scale found");
}

Object* rebuild_v1(GraphBuilder& builder, const std::vector<Object*>& items) {
  const Arguments args(builder, items, 4, 4);
  ObjectTensor tensor = dense_part(builder, args, std::nullopt);
  refuse_quantized(builder, tensor);
  return make_tensor(builder, std::move(tensor));
}

Object* rebuild_v2(GraphBuilder& builder, const std::vector<Object*>& items) {
  const Arguments args(builder, items, 6, 7);
  ObjectTensor tensor = dense_part(builder, args, std::nullopt);
  refuse_quantized(builder, tensor);
  tensor.requires_grad = args.get<bool>(4, "requires_grad");
  tensor.backward_hooks = checked_hooks(builder, args.object(5));
  if (args.has(6)) set_metadata(builder, tensor, args.object(6));
  return make_tensor(builder, std::move(tensor));
}

Object* rebuild_v3(GraphBuilder& builder, const std::vector<Object*>& items) {
  const Arguments args(builder, items, 7, 8);
  ObjectTensor tensor = dense_part(builder, args, args.get<DType>(6, "dtype"));
  refuse_quantized(builder, tensor);
  tensor.requires_grad = args.get<bool>(4, "requires_grad");
  tensor.backward_hooks = checked_hooks(builder, args.object(5));
  if (args.has(7)) set_metadata(builder, tensor, args.object(7));
  return make_tensor(builder, std::move(tensor));
}

Object* rebuild_meta(GraphBuilder& builder, const std::vector<Object*>& items) {
  const Arguments args(builder, items, 4, 4);
  ObjectTensor tensor;
  tensor.form = ObjectTensor::Form::meta;
  tensor.dtype = args.get<DType>(0, "dtype");
  tensor.sizes = args.integers(1, "sizes");
  tensor.strides = args.integers(2, "strides");
  tensor.requires_grad = args.get<bool>(3, "requires_grad");
  check_geometry(builder, tensor);
  return make_tensor(builder, std::move(tensor));
}

Object* rebuild_parameter(GraphBuilder& builder, const std::vector<Object*>& items, std::size_t n_args) {
  const Arguments args(builder, items, n_args, n_args);
  ObjectTensor tensor = args.tensor(0, "tensor");
  tensor.is_parameter = true;
  tensor.requires_grad = args.get<bool>(1, "requires_grad");
  tensor.backward_hooks = checked_hooks(builder, args.object(2));
  tensor.attributes = n_args == 4 ? checked_attributes(builder, args.object(3)) : nullptr;
  return make_tensor(builder, std::move(tensor));
}

// Parameter(data, requires_grad=True), called.
Object* make_parameter(GraphBuilder& builder, const std::vector<Object*>& items) {
  const Arguments args(builder, items, 1, 2);
  ObjectTensor tensor = args.tensor(0, "tensor");
  tensor.is_parameter = true;
  tensor.requires_grad = args.has(1) ? args.get<bool>(1, "requires_grad") : true;
  return make_tensor(builder, std::move(tensor));
}

// Requires: a tensor of integers with strides, as indices are.
void check_indices(GraphBuilder& builder, const ObjectTensor& tensor, const char* what, bool may_be_int32) {
  const bool is_index = tensor.dtype == DType::int64 || (may_be_int32 && tensor.dtype == DType::int32);
  if (tensor.form != ObjectTensor::Form::dense || !is_index) {
    builder.fail(std::string(what) + " of type " + std::string(dtype_name_of(tensor.dtype)) +
                 " found, a dense tensor of integers expected");
  }
}

// (layout, (indices, values, sizes[, is_coalesced])).
Object* rebuild_coo(GraphBuilder& builder, const std::vector<Object*>& data) {
  const Arguments args(builder, data, 3, 4);
  const ObjectTensor& indices = args.tensor(0, "indices");
  const ObjectTensor& values = args.tensor(1, "values");
  check_indices(builder, indices, "indices", false);
  ObjectTensor tensor;
  tensor.form = ObjectTensor::Form::sparse_coo;
  tensor.layout = LayoutKind::sparse_coo;
  tensor.dtype = values.dtype;
  tensor.sizes = args.integers(2, "sizes");
  tensor.requires_grad = values.requires_grad;
  tensor.is_coalesced = args.has(3) && args.get<bool>(3, "is_coalesced");
  tensor.parts = {args.object(0), args.object(1)};
  checked_product(builder, tensor.sizes, item_size(tensor.dtype));
  // indices [sparse dims, n], values [n, dense sizes ...].
  const Dims& at = indices.sizes;
  const bool fits =
      values.form == ObjectTensor::Form::dense && at.size() == 2 && !values.sizes.empty() && values.sizes[0] == at[1] &&
      static_cast<std::uint64_t>(at[0]) <= tensor.sizes.size() &&
      std::equal(values.sizes.begin() + 1, values.sizes.end(), tensor.sizes.begin() + at[0], tensor.sizes.end());
  if (!fits) {
    builder.fail("indices of sizes " + list_of(at) + " and values of sizes " + list_of(values.sizes) +
                 " found, which do not make a tensor of sizes " + list_of(tensor.sizes));
  }
  return make_tensor(builder, std::move(tensor));
}

// The sizes that the parts of a compressed tensor must have: batch ..., 2 dimensions, dense ....
bool compressed_fits(const ObjectTensor& tensor, const ObjectTensor& compressed, const ObjectTensor& plain,
                     const ObjectTensor& values) {
  const bool is_block = tensor.layout == LayoutKind::sparse_bsr || tensor.layout == LayoutKind::sparse_bsc;
  const bool by_row = tensor.layout == LayoutKind::sparse_csr || tensor.layout == LayoutKind::sparse_bsr;
  if (compressed.sizes.empty() || compressed.dtype != plain.dtype) return false;
  const std::size_t n_batch = compressed.sizes.size() - 1, n_block = is_block ? 2 : 0;
  if (tensor.sizes.size() < n_batch + 2 || plain.sizes.size() != n_batch + 1) return false;
  const std::size_t n_dense = tensor.sizes.size() - n_batch - 2;
  if (values.sizes.size() != n_batch + 1 + n_block + n_dense) return false;
  for (std::size_t i = 0; i < n_batch; ++i) {
    const std::int64_t n = tensor.sizes[i];
    if (compressed.sizes[i] != n || plain.sizes[i] != n || values.sizes[i] != n) return false;
  }
  std::int64_t n_groups = tensor.sizes[n_batch + (by_row ? 0 : 1)];
  if (is_block) {
    const std::int64_t rows = values.sizes[n_batch + 1], columns = values.sizes[n_batch + 2];
    if (rows == 0 || columns == 0 || tensor.sizes[n_batch] % rows != 0 || tensor.sizes[n_batch + 1] % columns != 0) {
      return false;
    }
    n_groups /= by_row ? rows : columns;
  }
  return compressed.sizes[n_batch] - 1 == n_groups && plain.sizes[n_batch] == values.sizes[n_batch] &&
         std::equal(tensor.sizes.end() - static_cast<std::ptrdiff_t>(n_dense), tensor.sizes.end(),
                    values.sizes.end() - static_cast<std::ptrdiff_t>(n_dense));
}

// (layout, (compressed indices, plain indices, values, sizes)).
Object* rebuild_compressed(GraphBuilder& builder, LayoutKind layout, const std::vector<Object*>& data) {
  const Arguments args(builder, data, 4, 4);
  const ObjectTensor& compressed = args.tensor(0, "compressed indices");
  const ObjectTensor& plain = args.tensor(1, "plain indices");
  const ObjectTensor& values = args.tensor(2, "values");
  check_indices(builder, compressed, "compressed indices", true);
  check_indices(builder, plain, "plain indices", true);
  ObjectTensor tensor;
  tensor.form = ObjectTensor::Form::sparse_compressed;
  tensor.layout = layout;
  tensor.dtype = values.dtype;
  tensor.sizes = args.integers(3, "sizes");
  tensor.requires_grad = values.requires_grad;
  tensor.parts = {args.object(0), args.object(1), args.object(2)};
  checked_product(builder, tensor.sizes, item_size(tensor.dtype));
  if (values.form != ObjectTensor::Form::dense || !compressed_fits(tensor, compressed, plain, values)) {
    builder.fail("compressed indices of sizes " + list_of(compressed.sizes) + ", plain indices of sizes " +
                 list_of(plain.sizes) + " and values of sizes " + list_of(values.sizes) +
                 " found, which do not make a tensor of sizes " + list_of(tensor.sizes));
  }
  return make_tensor(builder, std::move(tensor));
}

// LibTorch's form of the same: (c10::Layout, sizes, requires_grad, indices, values, hooks), or two tensors of indices.
Object* rebuild_libtorch_sparse(GraphBuilder& builder, const std::vector<Object*>& items) {
  constexpr std::int64_t kSparse = 1, kSparseCsr = 2;
  const Arguments args(builder, items, 6, 7);
  const auto layout = args.get<std::int64_t>(0, "layout");
  Object* object = nullptr;
  if (layout == kSparse && items.size() == 6) {
    object = rebuild_coo(builder, {items[3], items[4], items[1]});
  } else if (layout == kSparseCsr && items.size() == 7) {
    object = rebuild_compressed(builder, LayoutKind::sparse_csr, {items[3], items[4], items[5], items[1]});
  } else {
    args.fail(0, "layout of a sparse tensor");
  }
  object->get<ObjectTensor>()->requires_grad = args.get<bool>(2, "requires_grad");
  return object;
}

Object* rebuild_sparse(GraphBuilder& builder, const std::vector<Object*>& items) {
  if (builder.dialect() == PickleDialect::libtorch && items.size() != 2) return rebuild_libtorch_sparse(builder, items);
  const Arguments args(builder, items, 2, 2);
  const auto layout = args.get<LayoutKind>(0, "layout");
  const std::vector<Object*>& data = args.get<ObjectTuple>(1, "tuple of parts").items;
  switch (layout) {
    case LayoutKind::sparse_coo:
      return rebuild_coo(builder, data);
    case LayoutKind::sparse_csr:
    case LayoutKind::sparse_csc:
    case LayoutKind::sparse_bsr:
    case LayoutKind::sparse_bsc:
      return rebuild_compressed(builder, layout, data);
    default:
      args.fail(0, "layout of a sparse tensor");
  }
}

void set_per_tensor(const Arguments& params, ObjectTensor& tensor) {
  tensor.scale = params.get<double>(1, "scale");
  tensor.zero_point = params.get<std::int64_t>(2, "zero point");
}

void set_per_channel(GraphBuilder& builder, const Arguments& params, ObjectTensor& tensor) {
  const ObjectTensor& scales = params.tensor(1, "scales");
  const ObjectTensor& zero_points = params.tensor(2, "zero points");
  tensor.axis = params.get<std::int64_t>(3, "axis");
  if (tensor.axis < 0 || tensor.axis >= static_cast<std::int64_t>(tensor.sizes.size())) {
    builder.fail("axis " + std::to_string(tensor.axis) + " found, one of " + std::to_string(tensor.sizes.size()) +
                 " dimensions expected");
  }
  const Dims expected = {tensor.sizes[static_cast<std::size_t>(tensor.axis)]};
  for (const ObjectTensor* part : {&scales, &zero_points}) {
    if (part->form == ObjectTensor::Form::dense && part->sizes == expected) continue;
    builder.fail("scales and zero points of sizes " + list_of(scales.sizes) + " and " + list_of(zero_points.sizes) +
                 " found, both " + list_of(expected) + " expected");
  }
  tensor.parts = {params.object(1), params.object(2)};
}

// (storage, offset, size, stride, (qscheme, ...), requires_grad, hooks).
Object* rebuild_quantized(GraphBuilder& builder, const std::vector<Object*>& items) {
  const Arguments args(builder, items, 7, 7);
  ObjectTensor tensor = dense_part(builder, args, std::nullopt);
  tensor.form = ObjectTensor::Form::quantized;
  if (!is_quantized(tensor.dtype)) args.fail(0, "storage of a quantized type");
  const std::vector<Object*>& quantizer = args.get<ObjectTuple>(4, "tuple of quantizer parameters").items;
  const Arguments params(builder, quantizer, 3, 4);
  tensor.qscheme = params.get<QSchemeKind>(0, "quantization scheme");
  const bool per_tensor = tensor.qscheme == QSchemeKind::per_tensor_affine;
  const bool per_channel = tensor.qscheme == QSchemeKind::per_channel_affine ||
                           tensor.qscheme == QSchemeKind::per_channel_affine_float_qparams;
  if (!per_tensor && !per_channel) params.fail(0, "affine quantization scheme");
  if (quantizer.size() != (per_tensor ? 3u : 4u)) args.fail(4, "parameters of its quantization scheme");
  if (per_tensor) {
    set_per_tensor(params, tensor);
  } else {
    set_per_channel(builder, params, tensor);
  }
  tensor.requires_grad = args.get<bool>(5, "requires_grad");
  tensor.backward_hooks = checked_hooks(builder, args.object(6));
  return make_tensor(builder, std::move(tensor));
}

// (buffer [n], sizes [tensors, dims], strides [tensors, dims], offsets [tensors]).
Object* rebuild_nested(GraphBuilder& builder, const std::vector<Object*>& items) {
  const Arguments args(builder, items, 4, 4);
  const ObjectTensor& buffer = args.tensor(0, "buffer");
  const ObjectTensor& sizes = args.tensor(1, "sizes");
  const ObjectTensor& strides = args.tensor(2, "strides");
  const ObjectTensor& offsets = args.tensor(3, "offsets");
  for (const ObjectTensor* part : {&sizes, &strides, &offsets}) check_indices(builder, *part, "sizes", false);
  const bool fits = buffer.form == ObjectTensor::Form::dense && buffer.sizes.size() == 1 && sizes.sizes.size() <= 2 &&
                    sizes.sizes == strides.sizes && offsets.sizes.size() == 1 &&
                    (sizes.sizes.empty() ? 0 : sizes.sizes[0]) == offsets.sizes[0];
  if (!fits) {
    builder.fail("a nested tensor found whose buffer of sizes " + list_of(buffer.sizes) + ", sizes of sizes " +
                 list_of(sizes.sizes) + ", strides of sizes " + list_of(strides.sizes) + " and offsets of sizes " +
                 list_of(offsets.sizes) + " do not fit");
  }
  ObjectTensor tensor;
  tensor.form = ObjectTensor::Form::nested;
  tensor.dtype = buffer.dtype;
  tensor.requires_grad = buffer.requires_grad;
  tensor.parts = items;
  return make_tensor(builder, std::move(tensor));
}

// (function, class, arguments, state): a tensor of a class of its own, or with attributes. Null if we don't know the
// class or the function.
Object* rebuild_from_type(GraphBuilder& builder, const std::vector<Object*>& items) {
  const Arguments args(builder, items, 4, 4);
  const Known function = builder.known(args.object(0)), type = builder.known(args.object(1));
  const auto& inner = args.get<ObjectTuple>(2, "tuple of arguments");
  const bool is_tensor_function = function >= Known::rebuild_tensor && function <= Known::rebuild_nested_tensor &&
                                  function != Known::rebuild_from_type_v2;  // which would nest
  if (!is_tensor_function || (type != Known::tensor_class && type != Known::parameter_class)) return nullptr;
  Object* object = call_known_tensor_function(builder, function, inner.items);
  auto& tensor = *object->get<ObjectTensor>();
  if (type == Known::parameter_class) tensor.is_parameter = true;
  if (Object* attributes = checked_attributes(builder, args.object(3))) tensor.attributes = attributes;
  return object;
}

}  // namespace

Object* rebuild_plain_tensor(GraphBuilder& builder, const PlainTensor& plain, std::uint32_t storage) {
  builder.charge((plain.sizes.n + plain.strides.n) * 8 + 64);
  Object* const object = builder.make_plain_tensor();
  ObjectTensor& tensor = *object->get<ObjectTensor>();
  tensor.storage = storage;
  tensor.dtype = typed_storage_dtype(builder, storage);
  tensor.offset = plain.offset;
  tensor.sizes.assign(plain.sizes.values.data(), plain.sizes.n);
  tensor.strides.assign(plain.strides.values.data(), plain.strides.n);
  tensor.requires_grad = plain.requires_grad;
  check_geometry(builder, tensor);
  refuse_quantized(builder, tensor);
  return object;
}

Object* call_known_tensor_function(GraphBuilder& builder, Known known, const std::vector<Object*>& args) {
  switch (known) {
    case Known::rebuild_tensor:
      return rebuild_v1(builder, args);
    case Known::rebuild_tensor_v2:
      return rebuild_v2(builder, args);
    case Known::rebuild_tensor_v3:
      return rebuild_v3(builder, args);
    case Known::rebuild_parameter:
      return rebuild_parameter(builder, args, 3);
    case Known::rebuild_parameter_with_state:
      return rebuild_parameter(builder, args, 4);
    case Known::rebuild_from_type_v2:
      return rebuild_from_type(builder, args);
    case Known::rebuild_sparse_tensor:
      return rebuild_sparse(builder, args);
    case Known::rebuild_qtensor:
      return rebuild_quantized(builder, args);
    case Known::rebuild_meta_tensor:
      return rebuild_meta(builder, args);
    case Known::rebuild_nested_tensor:
      return rebuild_nested(builder, args);
    case Known::parameter_class:
      return make_parameter(builder, args);
    default:
      builder.fail("a call found of what is no function");
  }
}

}  // namespace ckptio::detail
