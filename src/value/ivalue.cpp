// SPDX-License-Identifier: Apache-2.0
#include "value/ivalue.h"

#include <ATen/ATen.h>
#include <ATen/core/class_type.h>
#include <ATen/core/jit_type.h>

#include <unordered_set>

#include "value/dtype_name.h"
#include "value/tensor_storage.h"

namespace ckptio {

namespace detail {

namespace {

constexpr std::string_view kTag = "ckptio.";

bool is_tag(std::string_view text) { return text.starts_with(kTag); }

template <class... Fields>
c10::IValue tagged(const char* kind, Fields&&... fields) {
  std::vector<c10::IValue> items{c10::IValue(std::string(kTag) + kind)};
  (items.emplace_back(std::forward<Fields>(fields)), ...);
  return c10::ivalue::Tuple::create(std::move(items));
}

// How many places an error lists.
constexpr std::size_t kMaxPlacesListed = 20;

class Encoder {
 public:
  explicit Encoder(const std::function<c10::IValue(const at::Tensor&)>& encode_tensor)
      : encode_tensor_(encode_tensor) {}

  EncodedValue encode_all(const Value& value) {
    EncodedValue result{encode(value), 1};
    if (!opaque_.empty()) throw_opaque();
    result.version = version_;
    return result;
  }

 private:
  c10::IValue encode(const Value& value) {
    if (value.is_null()) return {};
    if (const auto* held = value.get_if<bool>()) return *held;
    if (const auto* held = value.get_if<std::int64_t>()) return *held;
    if (const auto* held = value.get_if<double>()) return *held;
    if (const auto* held = value.get_if<std::complex<double>>()) return c10::complex<double>(*held);
    if (const auto* held = value.get_if<std::string>()) return *held;
    if (const auto* held = value.get_if<Bytes>()) return tagged("bytes", std::string(held->view()));
    if (const auto* held = value.get_if<BigInt>()) {
      const auto& octets = held->twos_complement();
      return tagged("int", std::string(octets.begin(), octets.end()));
    }
    if (const auto* held = value.get_if<at::Tensor>()) {
      return held->defined() ? encode_tensor(value, *held) : tagged("undefined");
    }
    if (const auto* held = value.get_if<Opaque>()) return encode_opaque(value, *held);
    if (const auto leaf = encode_torch_type(value)) return *leaf;
    if (++depth_ > kMaxNesting) {
      throw ValueError(value.path() + ": containers are nested deeper than " + std::to_string(kMaxNesting));
    }
    c10::IValue result = encode_container(value);
    --depth_;
    return result;
  }

  c10::IValue encode_tensor(const Value& value, const at::Tensor& tensor) const {
    try {
      return encode_tensor_(tensor);
    } catch (const ValueError& error) {
      throw ValueError(value.path() + ": " + error.what());
    }
  }

  // As tagged(), for the kinds that came with version 2.
  template <class... Fields>
  c10::IValue tagged_2(const char* kind, Fields&&... fields) {
    version_ = 2;
    return tagged(kind, std::forward<Fields>(fields)...);
  }

  c10::IValue encode_opaque(const Value& value, const Opaque& opaque) {
    if (opaque_.size() < kMaxPlacesListed) opaque_.push_back(value.path() + ": " + opaque.class_name());
    ++n_opaque_;
    return {};
  }

  [[noreturn]] void throw_opaque() const {
    std::string message = "objects of classes that TorchScript has no form for (PythonCheckpointIO keeps them): ";
    for (const std::string& place : opaque_) message += (&place == opaque_.data() ? "" : "; ") + place;
    if (n_opaque_ > opaque_.size()) message += "; ... (" + std::to_string(n_opaque_) + " in all)";
    throw TypeError(message);
  }

  std::optional<c10::IValue> encode_torch_type(const Value& value) {
    if (const auto* held = value.get_if<c10::ScalarType>()) return tagged_2("dtype", dtype_name(*held));
    if (const auto* held = value.get_if<c10::Device>()) return tagged_2("device", held->str());
    if (const auto* held = value.get_if<c10::Layout>()) return tagged_2("layout", layout_name(*held));
    if (const auto* held = value.get_if<c10::QScheme>()) return tagged_2("qscheme", c10::toString(*held));
    if (const auto* held = value.get_if<ByteArray>()) return tagged_2("bytearray", std::string(held->view()));
    if (const auto* held = value.get_if<TypedStorage>()) {
      if (!held->storage) throw ValueError(value.path() + ": a storage that is null");
      return tagged_2("storage", encode_tensor_(bytes_of(held->storage)),
                      held->dtype ? dtype_name(*held->dtype) : std::string());
    }
    return std::nullopt;
  }

  c10::IValue encode_container(const Value& value) {
    if (const auto* list = value.get_if<List>()) return encode_items(*list);
    if (const auto* set = value.get_if<Set>())
      return tagged_2(set->is_frozen() ? "frozenset" : "set", encode_items(*set));
    if (const auto* tuple = value.get_if<Tuple>()) return encode_tuple(*tuple);
    const Dict& dict = value.as<Dict>();
    if (dict.type() == DictType::dict) return encode_dict(dict);
    c10::IValue items = encode_dict(dict);
    return tagged_2(dict.type() == DictType::counter ? "counter" : "ordered_dict", std::move(items),
                    encode_dict(dict.attributes()));
  }

  template <class Items>
  c10::IValue encode_items(const Items& source) {
    c10::impl::GenericList items(c10::AnyType::get());
    items.reserve(source.size());
    for (const Value& item : source) items.push_back(encode(item));
    return items;
  }

  c10::IValue encode_tuple(const Tuple& tuple) {
    std::vector<c10::IValue> items;
    items.reserve(tuple.size());
    for (const Value& item : tuple) items.push_back(encode(item));
    const bool like_a_tag = !items.empty() && items[0].isString() && is_tag(items[0].toStringRef());
    c10::IValue result = c10::ivalue::Tuple::create(std::move(items));
    if (tuple.is_size()) return tagged_2("size", std::move(result));
    return like_a_tag ? tagged("tuple", std::move(result)) : result;
  }

  c10::IValue encode_dict(const Dict& dict) {
    bool all_str = true;
    bool all_int = !dict.empty();
    for (const auto& [key, value] : dict) {
      all_str = all_str && key.is<std::string>();
      all_int = all_int && key.is<std::int64_t>();
    }
    if (!all_str && !all_int) return encode_pairs(dict);
    c10::impl::GenericDict items(all_str ? c10::TypePtr(c10::StringType::get()) : c10::TypePtr(c10::IntType::get()),
                                 c10::AnyType::get());
    items.reserve(dict.size());
    for (const auto& [key, value] : dict) items.insert(encode(key), encode(value));
    return items;
  }

  c10::IValue encode_pairs(const Dict& dict) {
    c10::impl::GenericList pairs(c10::AnyType::get());
    for (const auto& [key, value] : dict) {
      pairs.push_back(c10::ivalue::Tuple::create({encode(key), encode(value)}));
    }
    return tagged("dict", std::move(pairs));
  }

  const std::function<c10::IValue(const at::Tensor&)>& encode_tensor_;
  int version_ = 1;
  int depth_ = 0;
  std::vector<std::string> opaque_;  // "path: class", the first of them
  std::size_t n_opaque_ = 0;
};

c10::Layout parse_layout(const std::string& name) {
  for (int i = 0; i < static_cast<int>(c10::Layout::NumOptions); ++i) {
    const auto layout = static_cast<c10::Layout>(i);
    if (layout_name(layout) == name) return layout;
  }
  throw TypeError("unknown layout '" + name + "'");
}

c10::QScheme parse_qscheme(const std::string& name) {
  for (int i = 0; i < c10::COMPILE_TIME_NUM_QSCHEMES; ++i) {
    const auto scheme = static_cast<c10::QScheme>(i);
    if (c10::toString(scheme) == name) return scheme;
  }
  throw TypeError("unknown qscheme '" + name + "'");
}

c10::ScalarType parse_dtype(const std::string& name) {
  for (int i = 0; i < static_cast<int>(c10::ScalarType::NumOptions); ++i) {
    const auto type = static_cast<c10::ScalarType>(i);
    if (type != c10::ScalarType::Undefined && dtype_name(type) == name) return type;
  }
  throw TypeError("unknown dtype '" + name + "'");
}

using Fields = c10::ArrayRef<c10::IValue>;

class Decoder {
 public:
  Value decode(const c10::IValue& ivalue) {
    if (n_shared_around_ > 0 && ++n_shared_values_ > kMaxSharedValues) {
      throw TypeError("containers are referred to so often that their copies would fill the memory");
    }
    if (ivalue.isNone()) return {};
    if (ivalue.isBool()) return ivalue.toBool();
    if (ivalue.isInt()) return ivalue.toInt();
    if (ivalue.isDouble()) return ivalue.toDouble();
    if (ivalue.isComplexDouble()) return std::complex<double>(ivalue.toComplexDouble());
    if (ivalue.isString()) return ivalue.toStringRef();
    if (ivalue.isTensor()) return ivalue.toTensor();
    if (ivalue.isDevice()) return ivalue.toDevice();
    if (++depth_ > kMaxNesting + 2) {
      throw TypeError("containers are nested deeper than " + std::to_string(kMaxNesting));
    }
    const bool shared = !seen_.insert(ivalue.internalToPointer()).second;
    n_shared_around_ += shared ? 1 : 0;
    Value result = decode_container(ivalue);
    n_shared_around_ -= shared ? 1 : 0;
    --depth_;
    return result;
  }

 private:
  Value decode_container(const c10::IValue& ivalue) {
    if (ivalue.isList()) {
      List list;
      for (const c10::IValue& item : ivalue.toListRef()) list.push_back(decode(item));
      return list;
    }
    if (ivalue.isGenericDict()) {
      Dict dict;
      for (const auto& item : ivalue.toGenericDict()) dict[decode(item.key())] = decode(item.value());
      return dict;
    }
    if (ivalue.isTuple()) return decode_tuple(ivalue.toTupleRef().elements().asArrayRef());
    if (ivalue.isObject()) return decode_object(*ivalue.toObject());
    throw TypeError("a " + ivalue.tagKind() + " has no counterpart among plain values");
  }

  Value decode_object(const c10::ivalue::Object& object) {
    Dict dict;
    const auto type = object.type();
    for (std::size_t i = 0; i < type->numAttributes(); ++i) dict[type->getAttributeName(i)] = decode(object.getSlot(i));
    return dict;
  }

  Value decode_tuple(Fields fields) {
    if (fields.size() > 0 && fields[0].isString() && is_tag(fields[0].toStringRef())) {
      return decode_tagged(fields[0].toStringRef().substr(kTag.size()), fields);
    }
    return untagged(fields);
  }

  Value untagged(Fields fields) {
    List items;
    for (const c10::IValue& field : fields) items.push_back(decode(field));
    return Tuple(items.begin(), items.end());
  }

  Value decode_tagged(const std::string& kind, Fields fields) {
    if (kind == "bytes" && fields.size() == 2) return Bytes(std::string_view(fields[1].toStringRef()));
    if (kind == "int" && fields.size() == 2) {
      const std::string& octets = fields[1].toStringRef();
      return BigInt::from_twos_complement({octets.begin(), octets.end()});
    }
    if (const auto value = decode_version_2(kind, fields)) return *value;
    if (kind == "tuple" && fields.size() == 2) return untagged(fields[1].toTupleRef().elements().asArrayRef());
    if (kind == "dict" && fields.size() == 2) return decode_pairs(fields[1].toListRef());
    if (kind == "undefined" && fields.size() == 1) return at::Tensor();
    if (kind == "meta" && fields.size() == 5) return decode_meta(fields);
    if (kind == "view" && fields.size() == 7) return decode_view(fields);
    throw TypeError("unknown encoding 'ckptio." + kind + "' of " + std::to_string(fields.size()) + " fields");
  }

  std::optional<Value> decode_version_2(const std::string& kind, Fields fields) {
    if (fields.size() == 2) {
      if (kind == "dtype") return parse_dtype(fields[1].toStringRef());
      if (kind == "device") return c10::Device(fields[1].toStringRef());
      if (kind == "layout") return parse_layout(fields[1].toStringRef());
      if (kind == "qscheme") return parse_qscheme(fields[1].toStringRef());
      if (kind == "bytearray") return ByteArray(std::string_view(fields[1].toStringRef()));
      if (kind == "size")
        return Tuple::make_size(
            untagged(fields[1].toTupleRef().elements().asArrayRef()).as<std::vector<std::int64_t>>());
      if (kind == "set") return decode_set(fields[1].toListRef());
      if (kind == "frozenset") return Set::make_frozen(decode_set(fields[1].toListRef()));
    }
    if (fields.size() != 3) return std::nullopt;
    if (kind == "storage") return decode_storage(fields);
    if (kind == "ordered_dict") return decode_dict(DictType::ordered_dict, fields);
    if (kind == "counter") return decode_dict(DictType::counter, fields);
    return std::nullopt;
  }

  Set decode_set(c10::ArrayRef<c10::IValue> items) {
    Set set;
    for (const c10::IValue& item : items) set.insert(decode(item));
    return set;
  }

  Value decode_dict(DictType type, Fields fields) {
    Value value = decode(fields[1]);
    Value attributes = decode(fields[2]);
    Dict& dict = value.mutable_as<Dict>();
    dict.set_type(type);
    if (!attributes.as<Dict>().empty()) dict.attributes() = std::move(attributes.mutable_as<Dict>());
    return value;
  }

  Value decode_storage(Fields fields) {
    const Value bytes = decode(fields[1]);
    const at::Tensor& tensor = bytes.as<at::Tensor>();
    if (!tensor.defined() || !tensor.has_storage()) throw TypeError("a storage without memory");
    const std::string& dtype = fields[2].toStringRef();
    return TypedStorage{tensor.storage(), dtype.empty() ? std::nullopt : std::optional(parse_dtype(dtype))};
  }

  Value decode_pairs(c10::ArrayRef<c10::IValue> pairs) {
    Dict dict;
    for (const c10::IValue& pair : pairs) {
      const Fields fields = pair.toTupleRef().elements().asArrayRef();
      if (fields.size() != 2) throw TypeError("an entry of 'ckptio.dict' has no key and value");
      dict[decode(fields[0])] = decode(fields[1]);
    }
    return dict;
  }

  static Value decode_meta(Fields fields) {
    const auto sizes = fields[2].toIntVector();
    const auto strides = fields[3].toIntVector();
    const auto type = parse_dtype(fields[1].toStringRef());
    if (!bytes_needed(sizes, strides, 0, c10::elementSize(type))) throw TypeError("impossible geometry of a tensor");
    return at::empty_strided(sizes, strides, at::TensorOptions(type).device(at::kMeta))
        .set_requires_grad(fields[4].toBool());
  }

  static Value decode_view(Fields fields) {
    const at::Tensor base = fields[1].toTensor();
    const auto type = parse_dtype(fields[2].toStringRef());
    const auto sizes = fields[3].toIntVector();
    const auto strides = fields[4].toIntVector();
    const std::int64_t offset = fields[5].toInt();
    const auto needed = bytes_needed(sizes, strides, offset, c10::elementSize(type));
    if (!base.defined() || !base.has_storage() || !needed || *needed > base.storage().nbytes()) {
      throw TypeError("a view does not fit its storage");
    }
    return at::empty({0}, base.options().dtype(type))
        .set_(base.storage(), offset, sizes, strides)
        .set_requires_grad(fields[6].toBool());
  }

  std::unordered_set<const void*> seen_;
  std::size_t n_shared_values_ = 0;
  int n_shared_around_ = 0;  // containers met before, among those we are inside of
  int depth_ = 0;
};

}  // namespace

c10::IValue encode_meta(const at::Tensor& tensor) {
  return tagged("meta", dtype_name(tensor.scalar_type()), tensor.sizes(), tensor.strides(), tensor.requires_grad());
}

c10::IValue encode_view(const at::Tensor& tensor, const at::Tensor& base) {
  return tagged("view", base, dtype_name(tensor.scalar_type()), tensor.sizes(), tensor.strides(),
                tensor.storage_offset(), tensor.requires_grad());
}

EncodedValue to_ivalue(const Value& value, const std::function<c10::IValue(const at::Tensor&)>& encode_tensor) {
  return Encoder(encode_tensor).encode_all(value);
}

Value from_ivalue(const c10::IValue& ivalue) {
  try {
    return Decoder().decode(ivalue);
  } catch (const c10::Error& error) {
    throw TypeError(error.what_without_backtrace());
  }
}

}  // namespace detail

c10::IValue Value::to_ivalue() const {
  return detail::to_ivalue(*this, [](const at::Tensor& tensor) { return c10::IValue(tensor); }).ivalue;
}

Value Value::from_ivalue(const c10::IValue& ivalue) { return detail::from_ivalue(ivalue); }

}  // namespace ckptio
