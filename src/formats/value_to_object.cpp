// SPDX-License-Identifier: Apache-2.0
#include "formats/value_to_object.h"

#include "codec/limits.h"
#include "formats/object_tensor.h"
#include "formats/opaque_context.h"
#include "formats/torch_types.h"
#include "value/opaque_access.h"

namespace ckptio::detail {

namespace {

std::string to_string(const std::vector<std::uint8_t>& octets) { return {octets.begin(), octets.end()}; }

// Whether a tensor's description is all that there is to it.
bool is_plain(const ObjectTensor& tensor) {
  return !tensor.is_parameter && tensor.attributes == nullptr && tensor.backward_hooks == nullptr;
}

}  // namespace

bool can_name_attribute(const Value& key) {
  const auto* name = key.get_if<std::string>();
  return name != nullptr && *name != "__class__" && *name != "__dict__";
}

// The kinds of which there are many come first.
Object* ObjectBuilder::add(const Value& value) {
  if (const auto* held = value.get_if<at::Tensor>()) {
    try {
      return add_tensor(*held);
    } catch (const c10::Error& error) {
      throw TypeError(value.path() + ": a tensor that cannot be saved: " + error.what_without_backtrace());
    } catch (const TypeError& error) {
      throw TypeError(value.path() + ": " + error.what());
    } catch (const ValueError& error) {
      throw ValueError(value.path() + ": " + error.what());
    }
  }
  if (Object* object = add_leaf(value)) return object;
  if (++depth_ > kMaxDepth) {
    throw ValueError(value.path() + ": containers are nested deeper than " + std::to_string(kMaxDepth));
  }
  Object* object = add_container(value);
  --depth_;
  return object;
}

Object* ObjectBuilder::add(const Dict& dict) {
  ++depth_;
  Object* object = add_dict(dict);
  --depth_;
  return object;
}

// Null for a container.
Object* ObjectBuilder::add_leaf(const Value& value) {
  if (const auto* held = value.get_if<std::string>()) return graph_.make(ObjectString{*held});
  if (value.is_null()) return graph_.make(ObjectNone{});
  if (const auto* held = value.get_if<bool>()) return graph_.make(*held);
  if (const auto* held = value.get_if<std::int64_t>()) return graph_.make(*held);
  if (const auto* held = value.get_if<double>()) return graph_.make(*held);
  if (const auto* held = value.get_if<std::complex<double>>()) return graph_.make(*held);
  if (const auto* held = value.get_if<Bytes>()) return graph_.make(ObjectBytes{to_string(*held)});
  if (const auto* held = value.get_if<ByteArray>()) return graph_.make(ObjectByteArray{to_string(*held)});
  if (const auto* held = value.get_if<BigInt>()) return graph_.make(ObjectBigInt{to_string(held->twos_complement())});
  if (const auto* held = value.get_if<Opaque>()) {
    return copy(*OpaqueAccess::context(*held), *OpaqueAccess::object(*held));
  }
  return add_torch_type(value);
}

Object* ObjectBuilder::add_container(const Value& value) {
  if (const auto* list = value.get_if<List>()) return graph_.make(ObjectList{add_items(*list)});
  if (const auto* tuple = value.get_if<Tuple>()) return graph_.make(ObjectTuple{add_items(*tuple), tuple->is_size()});
  if (const auto* set = value.get_if<Set>()) return graph_.make(ObjectSet{add_items(*set), set->is_frozen()});
  return add_dict(value.as<Dict>());
}

template <class Items>
std::vector<Object*> ObjectBuilder::add_items(const Items& items) {
  std::vector<Object*> objects;
  objects.reserve(items.size());
  for (const Value& item : items) objects.push_back(add(item));
  return objects;
}

Object* ObjectBuilder::add_dict(const Dict& dict) {
  ObjectDict to;
  to.type = dict.type();
  to.items.reserve(dict.size());
  for (const auto& [key, value] : dict) {
    Object* key_object = add(key);
    to.items.emplace_back(key_object, add(value));
  }
  if (!dict.attributes().empty()) {
    for (const auto& [key, value] : dict.attributes()) {
      if (!can_name_attribute(key)) throw ValueError(value.path() + ": no name for an attribute, which readers refuse");
    }
    to.attributes = add_dict(dict.attributes());
  }
  return graph_.make(std::move(to));
}

// Null where it is none.
Object* ObjectBuilder::add_torch_type(const Value& value) {
  if (const auto* held = value.get_if<c10::ScalarType>()) return graph_.make(to_dtype(*held));
  if (const auto* held = value.get_if<c10::Device>()) return graph_.make(ObjectDevice{held->str()});
  if (const auto* held = value.get_if<c10::QScheme>()) return graph_.make(static_cast<QSchemeKind>(*held));
  if (const auto* held = value.get_if<c10::Layout>()) {
    const auto kind = to_layout_kind(*held);
    if (!kind) throw ValueError(value.path() + ": a layout that has no name in files");
    return graph_.make(*kind);
  }
  if (const auto* held = value.get_if<TypedStorage>()) {
    if (!held->storage) throw ValueError(value.path() + ": a storage that is null");
    const auto dtype = held->dtype ? std::optional(to_dtype(*held->dtype)) : std::nullopt;
    return graph_.make(ObjectStorage{add_storage(held->storage, dtype)});
  }
  return nullptr;
}

Object* ObjectBuilder::add_tensor(const at::Tensor& tensor) {
  if (!tensor.defined()) return graph_.make(ObjectNone{});
  const c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  const auto number = static_cast<std::uint32_t>(tensors_.size());
  const std::uint32_t known = tensor_numbers_.get_or_add(hash_of_address(impl), number,
                                                         [&](std::uint32_t i) { return tensors_[i].first == impl; });
  if (known != number) return tensors_[known].second;
  Object* object = graph_.make(ObjectTensor{});
  tensors_.emplace_back(impl, object);
  ObjectTensor& description = *object->get<ObjectTensor>();
  describe_tensor(
      tensor, description, [this](const c10::Storage& storage, DType dtype) { return add_storage(storage, dtype); },
      [this](const at::Tensor& part) {
        kept_.push_back(part);
        return add_tensor(part);
      });
  has_quantized_ = has_quantized_ || description.form == ObjectTensor::Form::quantized;
  return object;
}

// Python's readers give a storage the type with which they meet it first, and tensors have it from their storage. So
// one that is viewed as several types is written as untyped, of whose tensors each says its own.
std::uint32_t ObjectBuilder::add_storage(const c10::Storage& storage, std::optional<DType> dtype) {
  const c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
  const auto number = static_cast<std::uint32_t>(storages_.size());
  const std::uint32_t known = storage_numbers_.get_or_add(
      hash_of_address(impl), number, [&](std::uint32_t i) { return storages_[i].unsafeGetStorageImpl() == impl; });
  if (known == number) {
    StorageInfo& info = graph_.storages.emplace_back();
    info.key = std::to_string(number);
    info.location = storage.device().is_cpu() ? "cpu" : storage.device().str();
    info.n_bytes = storage.nbytes();
    info.untyped = !dtype || dtype_info(*dtype).storage_class.empty() || info.n_bytes % item_size(*dtype) != 0;
    info.dtype = info.untyped ? DType::uint8 : *dtype;
    storages_.push_back(storage);
  }
  StorageInfo& info = graph_.storages[known];
  if (!info.untyped && dtype != info.dtype) {
    info.untyped = true;
    info.dtype = DType::uint8;
  }
  return known;
}

Object* ObjectBuilder::copy(const OpaqueContext& from, const Object& root) {
  Object* result = place_for(from, &root);
  while (!to_copy_.empty()) {
    const auto [source, to] = to_copy_.back();
    to_copy_.pop_back();
    copy_content(from, *source, *to);
  }
  return result;
}

// Where the copy of `object` is, or will be; null for null.
Object* ObjectBuilder::place_for(const OpaqueContext& from, const Object* object) {
  if (object == nullptr) return nullptr;
  const auto [known, is_new] = copies_.try_emplace(object);
  if (!is_new) return known->second;
  Object*& place = known->second;
  if (const auto* tensor = object->get<ObjectTensor>(); tensor != nullptr && is_plain(*tensor)) {
    // The caller may hold the tensor too: then it is one object in the new file as well.
    const std::lock_guard lock(from.mutex);
    if (const at::Tensor* made = from.tensors.find(object)) return place = add_tensor(*made);
  }
  place = graph_.make(ObjectNone{});
  to_copy_.emplace_back(object, place);
  return place;
}

void ObjectBuilder::copy_content(const OpaqueContext& from, const Object& object, Object& to) {
  const auto place = [&](const Object* inner) { return place_for(from, inner); };
  const auto places = [&](const std::vector<Object*>& objects) {
    std::vector<Object*> result;
    result.reserve(objects.size());
    for (const Object* inner : objects) result.push_back(place(inner));
    return result;
  };
  const auto pairs = [&](const std::vector<std::pair<Object*, Object*>>& entries) {
    std::vector<std::pair<Object*, Object*>> result;
    result.reserve(entries.size());
    for (const auto& [key, value] : entries) {
      Object* key_place = place(key);
      result.emplace_back(key_place, place(value));
    }
    return result;
  };
  if (const auto* list = object.get<ObjectList>()) {
    to.held = ObjectList{places(list->items)};
  } else if (const auto* tuple = object.get<ObjectTuple>()) {
    to.held = ObjectTuple{places(tuple->items), tuple->is_size};
  } else if (const auto* dict = object.get<ObjectDict>()) {
    to.held = ObjectDict{pairs(dict->items), place(dict->attributes), dict->type};
  } else if (const auto* set = object.get<ObjectSet>()) {
    to.held = ObjectSet{places(set->items), set->frozen};
  } else if (const auto* opaque = object.get<ObjectOpaque>()) {
    to.held = std::make_unique<ObjectOpaque>(
        ObjectOpaque{opaque->make, place(opaque->callable), place(opaque->args), place(opaque->kwargs),
                     places(opaque->items), places(opaque->added), pairs(opaque->entries), place(opaque->state)});
  } else if (const auto* tensor = object.get<ObjectTensor>()) {
    copy_tensor(from, *tensor, to);
  } else if (const auto* storage = object.get<ObjectStorage>()) {
    const StorageInfo& info = from.graph.storages.at(storage->storage);
    to.held = ObjectStorage{
        add_storage(from.storages.at(storage->storage), info.untyped ? std::nullopt : std::optional(info.dtype))};
  } else {
    std::visit(
        [&to]<class T>(const T& held) {
          if constexpr (std::is_copy_constructible_v<T>) to.held = held;
        },
        object.held);
  }
}

void ObjectBuilder::copy_tensor(const OpaqueContext& from, const ObjectTensor& tensor, Object& to) {
  ObjectTensor copied = tensor;
  if (tensor.storage != ObjectTensor::kNoStorage) {
    copied.storage = add_storage(from.storages.at(tensor.storage), tensor.dtype);
  }
  for (Object*& part : copied.parts) part = place_for(from, part);
  copied.attributes = place_for(from, tensor.attributes);
  copied.backward_hooks = place_for(from, tensor.backward_hooks);
  has_quantized_ = has_quantized_ || tensor.form == ObjectTensor::Form::quantized;
  graph_.put(to, std::move(copied));
}

void ObjectBuilder::finish() const {
  if (!has_quantized_) return;
  for (const Object& object : graph_.objects) {
    const auto* tensor = object.get<ObjectTensor>();
    if (tensor == nullptr || tensor->form != ObjectTensor::Form::quantized) continue;
    if (graph_.storages[tensor->storage].untyped) {
      throw ValueError(
          "a quantized tensor shares its storage with tensors of another type, which Python's format has " +
          std::string("no way to say: save a clone of it"));
    }
  }
}

}  // namespace ckptio::detail
