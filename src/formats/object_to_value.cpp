// SPDX-License-Identifier: Apache-2.0
#include "formats/object_to_value.h"

#include <algorithm>
#include <cstring>

#include "codec/limits.h"
#include "formats/object_tensor.h"
#include "formats/torch_types.h"
#include "value/nodes.h"

namespace ckptio::detail {

namespace {

// What may refer to itself, through others. (What Python code set on a tensor is no part of its Value.)
bool is_composite(const Object& object) {
  return object.is<ObjectList>() || object.is<ObjectTuple>() || object.is<ObjectDict>() || object.is<ObjectSet>() ||
         object.is<ObjectOpaque>();
}

// Tarjan's search for strongly connected components, for those of more than one object or with an edge to itself.
// Recursion is bounded, as the readers refuse what is nested deeper than kMaxDepth.
class CycleFinder {
 public:
  explicit CycleFinder(std::unordered_set<const Object*>& in_cycles) : in_cycles_(in_cycles) {}

  void search(const Object& root) {
    if (is_composite(root) && n_children(root) > 0) visit(root);
  }

 private:
  static constexpr std::uint32_t kDone = 0xffffffff;

  std::uint32_t visit(const Object& object) {
    const std::uint32_t own = ++n_visited_;
    number_[&object] = own;
    open_.push_back(&object);
    std::uint32_t low = own;
    bool refers_to_itself = false;
    const std::size_t n = n_children(object);
    for (std::size_t i = 0; i < n; ++i) {
      const Object* inner = child(object, i);
      if (inner == nullptr || !is_composite(*inner) || n_children(*inner) == 0) continue;
      refers_to_itself = refers_to_itself || inner == &object;
      const auto known = number_.find(inner);
      const std::uint32_t reached = known == number_.end() ? visit(*inner) : known->second;
      low = std::min(low, reached);
    }
    if (low == own) close(object, refers_to_itself);
    return low == own ? kDone : low;
  }

  // `object` is the first of its component that was met: all that is open since then belongs to it.
  void close(const Object& object, bool refers_to_itself) {
    const bool is_cycle = refers_to_itself || open_.back() != &object;
    const Object* last = nullptr;
    do {
      last = open_.back();
      open_.pop_back();
      number_[last] = kDone;
      if (is_cycle) in_cycles_.insert(last);
    } while (last != &object);
  }

  std::unordered_set<const Object*>& in_cycles_;
  std::unordered_map<const Object*, std::uint32_t> number_;  // in the order of visiting; kDone after close()
  std::vector<const Object*> open_;
  std::uint32_t n_visited_ = 0;
};

class Converter {
 public:
  explicit Converter(const std::shared_ptr<const OpaqueContext>& context) : context_(context), lock_(context->mutex) {}

  void leave_out(const Object& dict, const std::vector<bool>& items) {
    partial_ = &dict;
    left_out_ = &items;
  }

  Value convert_opened(const Object& object) {
    return is_composite(object) && !object.is<ObjectOpaque>() ? convert_container(object) : convert(object);
  }

  Value convert(const Object& object) {
    ++n_values_;
    charge(sizeof(Value));
    if (is_composite(object)) return convert_composite(object);
    if (object.is<bool>()) return *object.get<bool>();
    if (const auto* held = object.get<std::int64_t>()) return *held;
    if (const auto* held = object.get<double>()) return *held;
    if (const auto* held = object.get<std::complex<double>>()) return *held;
    if (const auto* held = object.get<ObjectString>()) return charge_text(object, held->utf8), held->utf8;
    if (const auto* held = object.get<ObjectBytes>()) {
      charge_text(object, held->octets);
      return Bytes(std::string_view(held->octets));
    }
    if (const auto* held = object.get<ObjectByteArray>()) {
      charge_text(object, held->octets);
      return ByteArray(std::string_view(held->octets));
    }
    if (const auto* held = object.get<ObjectBigInt>()) {
      charge_text(object, held->twos_complement);
      return BigInt::from_twos_complement({held->twos_complement.begin(), held->twos_complement.end()});
    }
    if (object.is<ObjectTensor>()) return tensor_of(object);
    if (object.is<ObjectGlobal>()) return opaque(object);
    return torch_type(object);
  }

 private:
  Value convert_composite(const Object& object) {
    if (object.is<ObjectOpaque>() || context_->in_cycles.contains(&object)) return opaque(object);
    return convert_container(object);
  }

  Value convert_container(const Object& object) {
    if (++depth_ > kMaxDepth) {
      fail("objects are nested deeper than " + std::to_string(kMaxDepth));
    }
    const std::size_t n_before = n_values_;
    Value value;
    if (const auto* list = object.get<ObjectList>()) {
      value = items_of(list->items);
    } else if (const auto* tuple = object.get<ObjectTuple>()) {
      value = convert_tuple(*tuple);
    } else if (const auto* dict = object.get<ObjectDict>()) {
      value = convert_dict(object, *dict);
    } else {
      value = convert_set(object, *object.get<ObjectSet>());
    }
    --depth_;
    n_inside_ = n_values_ - n_before;
    return value;
  }

  List items_of(const std::vector<Object*>& objects) {
    List items;
    if (!objects.empty()) items.reserve(objects.size());
    for (std::size_t i = 0; i < objects.size(); ++i) {
      path_.push_back({nullptr, i});
      items.push_back(convert(*objects[i]));
      path_.pop_back();
    }
    return items;
  }

  Value convert_tuple(const ObjectTuple& tuple) {
    Tuple result = ValueAccess::to_tuple(items_of(tuple.items));
    if (tuple.is_size) ValueAccess::set_size(result);
    return result;
  }

  // The entry for `key`, made new; null where there is none: Python's keys may be what ours cannot be, or equal for us
  // and not for Python (NaN).
  Value* insert(Dict& dict, const Object& key) {
    charge(kEntryBytes);
    Value value = convert(key);
    if (is_composite(key)) {
      n_hashed_ += n_inside_;
      if (n_hashed_ > kMaxHashedValues) fail("its dictionary keys and sets hold too many values");
    }
    return ValueAccess::insert(dict, std::move(value));
  }

  Value convert_dict(const Object& object, const ObjectDict& source) {
    Dict dict;
    dict.set_type(source.type);
    if (!source.items.empty()) ValueAccess::reserve(dict, source.items.size());
    for (std::size_t i = 0; i < source.items.size(); ++i) {
      const auto& [key, item] = source.items[i];
      if (&object == partial_ && (*left_out_)[i]) continue;
      Value* slot = insert(dict, *key);
      if (slot == nullptr) return opaque(object);
      path_.push_back({key, 0});
      *slot = convert(*item);
      path_.pop_back();
    }
    if (source.attributes != nullptr && source.attributes->is<ObjectDict>() && dict.type() != DictType::dict) {
      Value attributes = convert(*source.attributes);
      if (!attributes.is<Dict>()) return opaque(object);
      if (!attributes.as<Dict>().empty()) dict.attributes() = std::move(attributes.mutable_as<Dict>());
    }
    return dict;
  }

  Value convert_set(const Object& object, const ObjectSet& source) {
    Set set;
    for (const Object* item : source.items) {
      if (insert(ValueAccess::keys(set), *item) == nullptr) return opaque(object);
    }
    if (source.frozen) return Set::make_frozen(std::move(set));
    return set;
  }

  Value torch_type(const Object& object) {
    if (const auto* held = object.get<DType>()) return to_scalar_type(*held);
    if (const auto* held = object.get<ObjectDevice>()) return device(*held);
    if (const auto* held = object.get<LayoutKind>()) return to_layout(*held);
    if (const auto* held = object.get<QSchemeKind>()) return static_cast<c10::QScheme>(*held);
    if (const auto* held = object.get<ObjectStorage>()) {
      const StorageInfo& info = context_->graph.storages.at(held->storage);
      return TypedStorage{context_->storages.at(held->storage),
                          info.untyped ? std::nullopt : std::optional(to_scalar_type(info.dtype))};
    }
    return nullptr;  // ObjectNone
  }

  Value device(const ObjectDevice& held) {
    try {
      return c10::Device(held.name);
    } catch (const c10::Error&) {
      throw CorruptError(where() + ": '" + held.name + "' is not the name of a device");
    }
  }

  at::Tensor tensor_of(const Object& object) {
    if (const at::Tensor* known = context_->tensors.find(&object)) return *known;
    at::Tensor tensor;
    try {
      tensor = make_tensor(*object.get<ObjectTensor>(), context_->storages,
                           [this](const Object& part) { return tensor_of(part); });
    } catch (const c10::Error& error) {
      throw CorruptError(where() + ": a tensor that cannot be: " + error.what_without_backtrace());
    } catch (const CorruptError& error) {
      throw CorruptError(where() + ": " + error.what());
    }
    context_->tensors.add(&object, tensor);
    return tensor;
  }

  Value opaque(const Object& object) {
    context_->has_opaque = true;
    return OpaqueAccess::make(context_, &object);
  }

  void charge(std::uint64_t n_bytes) {
    n_bytes_ += n_bytes;
    if (n_bytes_ > kMaxValueBytes) {
      fail("what it holds would fill the memory: more than " + std::to_string(kMaxValueBytes >> 20) +
           " MiB beside the tensors, with containers that are referred to several times as copies");
    }
  }

  // The first copy of a string is bounded by the file; further ones are counted.
  void charge_text(const Object& object, const std::string& text) {
    if (text.size() > kFreeTextBytes && !seen_texts_.insert(&object).second) charge(text.size());
  }

  [[noreturn]] void fail(const std::string& what) const { throw UnsupportedError(where() + ": " + what); }

  std::string where() const {
    std::string path = "checkpoint";
    for (const Step& step : path_) {
      path = step.key != nullptr ? path_step(path, *step.key) : path + "[" + std::to_string(step.index) + "]";
    }
    return "cannot read '" + context_->where + "': " + path;
  }

  // What an entry of a Dict takes beside its two Values: a list's and a hash table's nodes.
  static constexpr std::uint64_t kEntryBytes = 80;
  // Strings up to this size are copied without counting: keys such as 'exp_avg' are one object in all of a file.
  static constexpr std::size_t kFreeTextBytes = 64;

  struct Step {
    const Object* key = nullptr;  // null: `index` counts
    std::size_t index = 0;
  };

  const std::shared_ptr<const OpaqueContext>& context_;
  const std::lock_guard<std::mutex> lock_;
  const Object* partial_ = nullptr;
  const std::vector<bool>* left_out_ = nullptr;
  std::vector<Step> path_;
  std::unordered_set<const Object*> seen_texts_;
  std::size_t n_values_ = 0;
  std::size_t n_inside_ = 0;  // values in the container converted last
  std::uint64_t n_hashed_ = 0;
  std::uint64_t n_bytes_ = 0;
  std::uint32_t depth_ = 0;
};

}  // namespace

namespace {

// Marks what the Opaques in a Value refer to.
class Marker {
 public:
  explicit Marker(const OpaqueContext& context) : needs_storage_(context.storages.size(), false) {}

  void mark_opaque_in(const Value& value) {
    if (const auto* opaque = value.get_if<Opaque>()) {
      mark(OpaqueAccess::object(*opaque));
    } else if (const auto* dict = value.get_if<Dict>()) {
      mark_opaque_in(*dict);
    } else if (const auto* set = value.get_if<Set>()) {
      for (const Value& item : *set) mark_opaque_in(item);
    } else if (const auto* list = value.get_if<List>()) {
      for (const Value& item : *list) mark_opaque_in(item);
    } else if (const auto* tuple = value.get_if<Tuple>()) {
      for (const Value& item : *tuple) mark_opaque_in(item);
    }
  }

  bool needs(const Object* object) const { return marked_.contains(object); }
  bool needs_storage(std::size_t number) const { return needs_storage_[number]; }

 private:
  void mark_opaque_in(const Dict& dict) {
    for (const auto& [key, item] : dict) {
      mark_opaque_in(key);
      mark_opaque_in(item);
    }
    if (!dict.attributes().empty()) mark_opaque_in(dict.attributes());
  }

  void mark(const Object* root) {
    std::vector<const Object*> to_do{root};
    while (!to_do.empty()) {
      const Object* object = to_do.back();
      to_do.pop_back();
      if (object == nullptr || !marked_.insert(object).second) continue;
      if (const auto* storage = object->get<ObjectStorage>()) needs_storage_.at(storage->storage) = true;
      if (const auto* tensor = object->get<ObjectTensor>();
          tensor != nullptr && tensor->storage != ObjectTensor::kNoStorage) {
        needs_storage_.at(tensor->storage) = true;
      }
      for (std::size_t i = 0; i < n_children(*object); ++i) to_do.push_back(child(*object, i));
    }
  }

  std::unordered_set<const Object*> marked_;
  std::vector<bool> needs_storage_;
};

}  // namespace

void release_unneeded(OpaqueContext& context, const Value& value) {
  Marker marker(context);
  if (context.has_opaque) marker.mark_opaque_in(value);
  for (std::size_t i = 0; i < context.storages.size(); ++i) {
    if (!marker.needs_storage(i)) context.storages[i] = c10::Storage();
  }
  if (!context.has_opaque) return context.tensors.clear();
  context.tensors.keep_if([&marker](const Object* object) { return marker.needs(object); });
}

std::shared_ptr<OpaqueContext> make_opaque_context(std::string where, ObjectGraph graph,
                                                   std::vector<c10::Storage> storages) {
  auto context = std::make_shared<OpaqueContext>();
  context->where = std::move(where);
  context->graph = std::move(graph);
  context->storages = std::move(storages);
  if (context->graph.root != nullptr) CycleFinder(context->in_cycles).search(*context->graph.root);
  return context;
}

Value object_to_value(const std::shared_ptr<const OpaqueContext>& context, const Object& object) {
  return Converter(context).convert(object);
}

Value opened_to_value(const std::shared_ptr<const OpaqueContext>& context, const Object& object) {
  return Converter(context).convert_opened(object);
}

Value opened_to_value(const std::shared_ptr<const OpaqueContext>& context, const Object& object,
                      const std::vector<bool>& left_out) {
  Converter converter(context);
  converter.leave_out(object, left_out);
  return converter.convert_opened(object);
}

std::vector<bool> storages_of(const ObjectGraph& graph, const Object& object, const std::vector<bool>& left_out) {
  std::vector<bool> storages(graph.storages.size()), seen(graph.objects.size());
  seen[object.number] = true;
  std::vector<const Object*> to_do;
  const auto add_children = [&](const Object& parent, const auto& is_wanted) {
    for (std::size_t i = 0; i < n_children(parent); ++i) {
      const Object* inner = child(parent, i);
      if (inner == nullptr || !is_wanted(i) || seen[inner->number]) continue;
      seen[inner->number] = true;
      to_do.push_back(inner);
    }
  };
  // A dict's children are keys and values in turn, then its attributes.
  add_children(object, [&](std::size_t i) { return i / 2 >= left_out.size() || !left_out[i / 2]; });
  while (!to_do.empty()) {
    const Object& next = *to_do.back();
    to_do.pop_back();
    if (const auto* storage = next.get<ObjectStorage>()) storages.at(storage->storage) = true;
    const auto* tensor = next.get<ObjectTensor>();
    if (tensor != nullptr && tensor->storage != ObjectTensor::kNoStorage) storages.at(tensor->storage) = true;
    add_children(next, [](std::size_t) { return true; });
  }
  return storages;
}

}  // namespace ckptio::detail
