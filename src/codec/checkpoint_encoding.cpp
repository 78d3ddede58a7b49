// SPDX-License-Identifier: Apache-2.0
#include "codec/checkpoint_encoding.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "ckptio/error.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

constexpr std::string_view kVersionKey = "ckptio_format_version";
constexpr std::string_view kCheckpointKey = "checkpoint";
constexpr std::string_view kLocationsKey = "ckptio_locations";
constexpr std::int64_t kNewestVersion = 2;
constexpr std::string_view kTag = "ckptio.";

using Items = std::vector<Object*>;

Object* find_attribute(const ObjectDict& attributes, std::string_view name) {
  for (const auto& [key, value] : attributes.items) {
    const auto* text = key->get<ObjectString>();
    if (text != nullptr && text->utf8 == name) return value;
  }
  return nullptr;
}

// How many bytes a storage must have for such a view; nullopt for impossible ones.
std::optional<std::uint64_t> bytes_needed(const ObjectTensor& tensor) {
  if (tensor.sizes.size() != tensor.strides.size() || tensor.offset < 0) return std::nullopt;
  std::int64_t last = tensor.offset, n_elements = 1;
  bool empty = false;
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    const std::int64_t size = tensor.sizes[i], stride = tensor.strides[i];
    if (size < 0 || stride < 0) return std::nullopt;
    empty = empty || size == 0;
    std::int64_t extent = 0;
    if (__builtin_mul_overflow(n_elements, std::max<std::int64_t>(size, 1), &n_elements) ||
        __builtin_mul_overflow(std::max<std::int64_t>(size - 1, 0), stride, &extent) ||
        __builtin_add_overflow(last, extent, &last)) {
      return std::nullopt;
    }
  }
  std::int64_t n_bytes = 0;
  if (__builtin_add_overflow(last, empty ? 0 : 1, &last) ||
      __builtin_mul_overflow(last, static_cast<std::int64_t>(item_size(tensor.dtype)), &n_bytes)) {
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(n_bytes);
}

// Replaces the tuples within what can be reached from an object. Recursive: the reader has bounded the depth.
class Decoder {
 public:
  Decoder(ObjectGraph& graph, const ByteSource& source) : graph_(graph), source_(source) {}

  void decode(Object* object) {
    if (auto* list = object->get<ObjectList>()) {
      if (is_new(object)) decode_all(list->items);
    } else if (auto* dict = object->get<ObjectDict>()) {
      if (is_new(object)) decode_entries(dict->items);
    } else if (auto* tuple = object->get<ObjectTuple>()) {
      if (is_new(object)) decode_tuple(object, *tuple);
    }
  }

 private:
  bool is_new(const Object* object) { return seen_.insert(object).second; }

  [[noreturn]] void fail(const std::string& what) const {
    throw CorruptError("cannot read '" + source_.name + "': " + what);
  }

  void decode_all(const Items& items) {
    for (Object* item : items) decode(item);
  }

  void decode_entries(const std::vector<std::pair<Object*, Object*>>& entries) {
    for (const auto& [key, value] : entries) {
      decode(key);
      decode(value);
    }
  }

  void decode_tuple(Object* object, const ObjectTuple& tuple) {
    const auto* tag = tuple.items.empty() ? nullptr : tuple.items[0]->get<ObjectString>();
    if (tag == nullptr || !tag->utf8.starts_with(kTag)) return decode_all(tuple.items);
    const std::string kind = tag->utf8.substr(kTag.size());
    const Items fields(tuple.items.begin() + 1, tuple.items.end());  // the tuple is about to be replaced
    if (decode_container(object, kind, fields) || decode_plain(object, kind, fields) ||
        decode_tensor(object, kind, fields)) {
      return;
    }
    fail("unknown encoding " + quote_name("ckptio." + kind) + " of " + std::to_string(fields.size() + 1) +
         " fields found");
  }

  bool decode_container(Object* object, const std::string& kind, const Items& fields) {
    if (kind == "tuple" && fields.size() == 1) {
      const Items items = get<ObjectTuple>(fields[0], kind).items;
      decode_all(items);
      object->held = ObjectTuple{items};
    } else if (kind == "size" && fields.size() == 1) {
      ObjectTuple size = get<ObjectTuple>(fields[0], kind);
      for (const Object* item : size.items) get<std::int64_t>(item, kind);
      size.is_size = true;
      object->held = std::move(size);
    } else if (kind == "dict" && fields.size() == 1) {
      object->held = decode_pairs(get<ObjectList>(fields[0], kind));
    } else if ((kind == "ordered_dict" || kind == "counter") && fields.size() == 2) {
      ObjectDict dict = dict_of(fields[0], kind);
      dict.type = kind == "counter" ? DictType::counter : DictType::ordered_dict;
      decode(fields[1]);
      if (!get<ObjectDict>(fields[1], kind).items.empty()) dict.attributes = fields[1];
      object->held = std::move(dict);
    } else if ((kind == "set" || kind == "frozenset") && fields.size() == 1) {
      const Items items = get<ObjectList>(fields[0], kind).items;
      decode_all(items);
      for (const Object* item : items) require_key(*item);
      object->held = ObjectSet{items, kind == "frozenset"};
    } else {
      return false;
    }
    return true;
  }

  bool decode_plain(Object* object, const std::string& kind, const Items& fields) {
    if (fields.size() != 1 || !fields[0]->is<ObjectString>()) return false;
    const std::string text = fields[0]->get<ObjectString>()->utf8;
    if (kind == "bytes") {
      object->held = ObjectBytes{text};
    } else if (kind == "bytearray") {
      object->held = ObjectByteArray{text};
    } else if (kind == "int") {
      if (text.size() <= 8) fail("a 'ckptio.int' that is no large integer found");
      object->held = ObjectBigInt{text};
    } else if (kind == "dtype") {
      object->held = dtype_of(text);
    } else if (kind == "device") {
      object->held = ObjectDevice{text};
    } else if (kind == "layout") {
      object->held = layout_of(text);
    } else if (kind == "qscheme") {
      object->held = qscheme_of(text);
    } else {
      return false;
    }
    return true;
  }

  bool decode_tensor(Object* object, const std::string& kind, const Items& fields) {
    ObjectTensor tensor;
    if (kind == "undefined" && fields.empty()) {
      object->held = ObjectNone{};  // as Python has it
      return true;
    }
    if (kind == "meta" && fields.size() == 4) {
      tensor.form = ObjectTensor::Form::meta;
      take_geometry(tensor, {fields[0], fields[1], fields[2], nullptr, fields[3]});
    } else if (kind == "view" && fields.size() == 6) {
      tensor.storage = base_of(fields[0], kind).storage;
      take_geometry(tensor, {fields[1], fields[2], fields[3], fields[4], fields[5]});
    } else if (kind == "storage" && fields.size() == 2) {
      decode(fields[0]);  // a view, where the file has a tensor of the storage already
      object->held = decode_storage(base_of(fields[0], kind), get<ObjectString>(fields[1], kind).utf8);
      return true;
    } else {
      return false;
    }
    graph_.put(*object, std::move(tensor));
    return true;
  }

  // The entries of a dict whose keys are neither all strings nor all integers.
  ObjectDict decode_pairs(const ObjectList& list) {
    ObjectDict dict;
    for (const Object* item : list.items) {
      const ObjectTuple& pair = get<ObjectTuple>(item, "dict");
      if (pair.items.size() != 2) fail("an entry of 'ckptio.dict' that has no key and value found");
      dict.items.emplace_back(pair.items[0], pair.items[1]);
    }
    decode_entries(dict.items);
    for (const auto& [key, value] : dict.items) require_key(*key);
    return dict;
  }

  // A dict that is itself encoded or not.
  ObjectDict dict_of(Object* object, const std::string& kind) {
    decode(object);
    return get<ObjectDict>(object, kind);
  }

  // What a Value can have as a key.
  void require_key(const Object& key) const {
    if (const auto* tuple = key.get<ObjectTuple>()) {
      for (const Object* item : tuple->items) require_key(*item);
      return;
    }
    const bool is_plain = key.is<ObjectNone>() || key.is<bool>() || key.is<std::int64_t>() || key.is<ObjectBigInt>() ||
                          key.is<double>() || key.is<std::complex<double>>() || key.is<ObjectString>() ||
                          key.is<ObjectBytes>();
    const bool is_other = key.is<DType>() || key.is<ObjectDevice>() || key.is<LayoutKind>() || key.is<QSchemeKind>() ||
                          (key.is<ObjectSet>() && key.get<ObjectSet>()->frozen);
    if (!is_plain && !is_other) fail("a key of 'ckptio.dict' or an item of a set that cannot be one found");
  }

  const ObjectTensor& base_of(const Object* object, const std::string& kind) const {
    const ObjectTensor& base = get<ObjectTensor>(object, kind);
    if (base.form != ObjectTensor::Form::dense || base.storage == ObjectTensor::kNoStorage) {
      fail("a 'ckptio." + kind + "' of a tensor without a storage of its own found");
    }
    return base;
  }

  struct Geometry {
    const Object *dtype, *sizes, *strides, *offset, *requires_grad;
  };
  void take_geometry(ObjectTensor& tensor, const Geometry& fields) const {
    const std::string kind = "view";
    tensor.dtype = dtype_of(get<ObjectString>(fields.dtype, kind).utf8);
    tensor.sizes = integers_of(fields.sizes);
    tensor.strides = integers_of(fields.strides);
    tensor.offset = fields.offset == nullptr ? 0 : get<std::int64_t>(fields.offset, kind);
    tensor.requires_grad = get<bool>(fields.requires_grad, kind);
    const auto needed = bytes_needed(tensor);
    if (!needed) fail("impossible geometry of a tensor found");
    if (tensor.storage != ObjectTensor::kNoStorage && *needed > graph_.storages[tensor.storage].n_bytes) {
      fail("a view that does not fit its storage found");
    }
  }

  ObjectStorage decode_storage(const ObjectTensor& base, const std::string& dtype) {
    StorageInfo& info = graph_.storages[base.storage];
    info.untyped = dtype.empty();
    info.dtype = dtype.empty() ? DType::uint8 : dtype_of(dtype);
    if (info.n_bytes % item_size(info.dtype) != 0) fail("a storage that is no whole number of its items found");
    return {base.storage};
  }

  DType dtype_of(const std::string& name) const {
    const auto dtype = dtype_named(name);
    if (!dtype) fail("an unknown dtype " + quote_name(name) + " found");
    return *dtype;
  }

  LayoutKind layout_of(const std::string& name) const {
    for (const auto& [known, layout] : {std::pair{"strided", LayoutKind::strided},
                                        {"sparse_coo", LayoutKind::sparse_coo},
                                        {"sparse_csr", LayoutKind::sparse_csr},
                                        {"sparse_csc", LayoutKind::sparse_csc},
                                        {"sparse_bsr", LayoutKind::sparse_bsr},
                                        {"sparse_bsc", LayoutKind::sparse_bsc},
                                        {"_mkldnn", LayoutKind::mkldnn}}) {
      if (name == known) return layout;
    }
    fail("an unknown layout " + quote_name(name) + " found");
  }

  QSchemeKind qscheme_of(const std::string& name) const {
    for (const auto& [known, qscheme] :
         {std::pair{"per_tensor_affine", QSchemeKind::per_tensor_affine},
          {"per_channel_affine", QSchemeKind::per_channel_affine},
          {"per_tensor_symmetric", QSchemeKind::per_tensor_symmetric},
          {"per_channel_symmetric", QSchemeKind::per_channel_symmetric},
          {"per_channel_affine_float_qparams", QSchemeKind::per_channel_affine_float_qparams}}) {
      if (name == known) return qscheme;
    }
    fail("an unknown qscheme " + quote_name(name) + " found");
  }

  Dims integers_of(const Object* object) const {
    Dims integers;
    for (const Object* item : get<ObjectList>(object, "view").items)
      integers.push_back(get<std::int64_t>(item, "view"));
    return integers;
  }

  template <class T>
  const T& get(const Object* object, const std::string& kind) const {
    const T* held = object->get<T>();
    if (held == nullptr) fail("a malformed 'ckptio." + kind + "' found");
    return *held;
  }

  ObjectGraph& graph_;
  const ByteSource& source_;
  std::unordered_set<const Object*> seen_;  // containers: decoded, or being so
};

// The storages' devices: in the order in which dense tensors name them, as the writer saw them.
class LocationGiver {
 public:
  LocationGiver(ObjectGraph& graph, const Items& locations) : graph_(graph), locations_(locations) {
    is_given_.resize(graph.storages.size());
  }

  void visit(const Object* object) {
    if (const auto* tensor = object->get<ObjectTensor>()) return give(*tensor);
    if (const auto* storage = object->get<ObjectStorage>()) return give(storage->storage);
    if (const auto* list = object->get<ObjectList>(); list != nullptr && is_new(object)) visit_all(list->items);
    if (const auto* tuple = object->get<ObjectTuple>(); tuple != nullptr && is_new(object)) visit_all(tuple->items);
    if (const auto* dict = object->get<ObjectDict>(); dict != nullptr && is_new(object)) {
      for (const auto& [key, value] : dict->items) visit(value);
      if (dict->attributes != nullptr) visit(dict->attributes);
    }
  }

 private:
  bool is_new(const Object* object) { return seen_.insert(object).second; }

  void visit_all(const Items& items) {
    for (const Object* item : items) visit(item);
  }

  void give(const ObjectTensor& tensor) {
    if (tensor.form == ObjectTensor::Form::dense && tensor.storage != ObjectTensor::kNoStorage) give(tensor.storage);
  }

  void give(std::uint32_t storage) {
    if (is_given_[storage] || n_given_ >= locations_.size()) return;
    is_given_[storage] = true;
    const auto* location = locations_[n_given_++]->get<ObjectString>();
    if (location != nullptr) graph_.storages[storage].location = location->utf8;
  }

  ObjectGraph& graph_;
  const Items& locations_;
  std::vector<bool> is_given_;
  std::size_t n_given_ = 0;
  std::unordered_set<const Object*> seen_;
};

void check_version(const Object& version, const ByteSource& source) {
  const auto* number = version.get<std::int64_t>();
  if (number == nullptr || *number < 1) {
    throw CorruptError("cannot read '" + source.name + "': its format version is no positive integer");
  }
  if (*number > kNewestVersion) {
    throw UnsupportedError("cannot read '" + source.name + "': its format version is " + std::to_string(*number) +
                           ", this ckptio reads versions up to " + std::to_string(kNewestVersion));
  }
}

}  // namespace

bool decode_checkpoint(ObjectGraph& graph, const ByteSource& source) {
  const auto* attributes = graph.root->get<ObjectDict>();
  if (attributes == nullptr) return false;
  const Object* version = find_attribute(*attributes, kVersionKey);
  if (version == nullptr) return false;
  check_version(*version, source);
  Object* checkpoint = find_attribute(*attributes, kCheckpointKey);
  if (checkpoint == nullptr) throw CorruptError("cannot read '" + source.name + "': it holds no checkpoint");
  const Object* locations = find_attribute(*attributes, kLocationsKey);
  Decoder(graph, source).decode(checkpoint);
  if (!checkpoint->is<ObjectDict>()) {
    throw CorruptError("cannot read '" + source.name + "': its checkpoint is no dictionary");
  }
  if (locations != nullptr) {
    const auto* list = locations->get<ObjectList>();
    if (list == nullptr) throw CorruptError("cannot read '" + source.name + "': its list of devices is none");
    LocationGiver(graph, list->items).visit(checkpoint);
  }
  graph.root = checkpoint;
  return true;
}

}  // namespace ckptio::detail
