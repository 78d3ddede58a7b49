// SPDX-License-Identifier: Apache-2.0
#include "ckptio/opaque.h"

#include <set>

#include "formats/object_to_value.h"
#include "formats/opaque_context.h"
#include "formats/value_to_object.h"
#include "value/nodes.h"

namespace ckptio {

using detail::Object;
using detail::ObjectOpaque;

namespace detail {

namespace {

using Context = std::shared_ptr<const OpaqueContext>;

// Opened, since what an object is made of often refers back to it.
Value value_of(const Context& context, const Object* object) {
  return object == nullptr ? Value() : opened_to_value(context, *object);
}

void append_values(List& to, const Context& context, const std::vector<Object*>& objects) {
  for (const Object* object : objects) to.push_back(object_to_value(context, *object));
}

// The fields in a state: those of a dict, also of both in Python's (dict or None, dict of slots).
void add_fields(Dict& fields, const Value& state) {
  if (const auto* dict = state.get_if<Dict>()) {
    for (const auto& [key, value] : *dict) fields[key] = value;
  } else if (const auto* opaque = state.get_if<Opaque>()) {
    if (opaque->global() != "builtins.dict") return;
    for (const auto& [key, value] : opaque->entries()) fields[key] = value;
  } else if (const auto* both = state.get_if<Tuple>(); both != nullptr && both->size() == 2) {
    const auto is_part = [](const Value& part) { return part.is_null() || part.is<Dict>() || part.is<Opaque>(); };
    if (!is_part(both->at(0)) || !is_part(both->at(1))) return;
    add_fields(fields, both->at(0));
    add_fields(fields, both->at(1));
  }
}

const char* container_name(const Object& object) {
  if (const auto* dict = object.get<ObjectDict>()) {
    if (dict->type == DictType::dict) return "builtins.dict";
    return dict->type == DictType::counter ? "collections.Counter" : "collections.OrderedDict";
  }
  if (object.is<ObjectList>()) return "builtins.list";
  if (const auto* set = object.get<ObjectSet>()) return set->frozen ? "builtins.frozenset" : "builtins.set";
  return "builtins.tuple";
}

bool is_container(const Object& object) { return !object.is<ObjectOpaque>() && !object.is<ObjectGlobal>(); }

// The object that `name`, "module.Outer.Name", stands for. The module ends where the first name in upper case begins,
// as classes have them; else at the last dot.
ObjectGlobal parse_global(const std::string& name) {
  std::size_t dot = name.rfind('.');
  for (std::size_t i = name.find('.'); i != std::string::npos; i = name.find('.', i + 1)) {
    if (i + 1 < name.size() && name[i + 1] >= 'A' && name[i + 1] <= 'Z') {
      dot = i;
      break;
    }
  }
  if (dot == std::string::npos || dot == 0 || dot + 1 == name.size() || name.find('\n') != std::string::npos) {
    throw ValueError("'" + name + "' is not the name of a class or function in a module, such as 'argparse.Namespace'");
  }
  return {name.substr(0, dot), name.substr(dot + 1)};
}

Opaque make_opaque(ObjectOpaque::Make make, const std::string& global, const Tuple& args, const Value& state) {
  ObjectBuilder builder;
  ObjectOpaque opaque;
  opaque.make = make;
  opaque.callable = builder.graph().make(parse_global(global));
  opaque.args = builder.add(args);
  if (!state.is_null()) opaque.state = builder.add(state);
  builder.finish();
  Object* root = builder.graph().make(std::move(opaque));
  builder.graph().root = root;
  return OpaqueAccess::make(make_opaque_context(global, std::move(builder.graph()), std::move(builder.storages())),
                            root);
}

// Compares two objects without recursion: pairs that were met before are equal unless something else differs.
class Comparison {
 public:
  Comparison(const Context& a, const Context& b) : a_(a), b_(b) {}

  bool equal(const Object* a, const Object* b) {
    to_do_.emplace_back(a, b);
    while (!to_do_.empty()) {
      const auto pair = to_do_.back();
      to_do_.pop_back();
      if (pair.first == nullptr || pair.second == nullptr) {
        if (pair.first != pair.second) return false;
        continue;
      }
      if (!seen_.insert(pair).second) continue;
      if (!equal_content(*pair.first, *pair.second)) return false;
    }
    return true;
  }

 private:
  bool equal_content(const Object& a, const Object& b) {
    if (a.held.index() != b.held.index()) return false;
    if (const auto* global = a.get<ObjectGlobal>()) {
      return global->module == b.get<ObjectGlobal>()->module && global->name == b.get<ObjectGlobal>()->name;
    }
    if (const auto* opaque = a.get<ObjectOpaque>()) return equal_opaque(*opaque, *b.get<ObjectOpaque>());
    const std::size_t n = n_children(a);
    if (a.is<ObjectTensor>() || n == 0) return object_to_value(a_, a) == object_to_value(b_, b);
    if (std::string_view(container_name(a)) != container_name(b)) return false;
    if (n != n_children(b)) return false;
    for (std::size_t i = 0; i < n; ++i) to_do_.emplace_back(child(a, i), child(b, i));
    return true;
  }

  bool equal_opaque(const ObjectOpaque& a, const ObjectOpaque& b) {
    if (a.make != b.make || a.items.size() != b.items.size() || a.added.size() != b.added.size() ||
        a.entries.size() != b.entries.size()) {
      return false;
    }
    to_do_.insert(to_do_.end(), {{a.callable, b.callable}, {a.args, b.args}, {a.kwargs, b.kwargs}, {a.state, b.state}});
    for (std::size_t i = 0; i < a.items.size(); ++i) to_do_.emplace_back(a.items[i], b.items[i]);
    for (std::size_t i = 0; i < a.added.size(); ++i) to_do_.emplace_back(a.added[i], b.added[i]);
    for (std::size_t i = 0; i < a.entries.size(); ++i) {
      to_do_.emplace_back(a.entries[i].first, b.entries[i].first);
      to_do_.emplace_back(a.entries[i].second, b.entries[i].second);
    }
    return true;
  }

  using Pair = std::pair<const Object*, const Object*>;
  const Context& a_;
  const Context& b_;
  std::set<Pair> seen_;
  std::vector<Pair> to_do_;
};

}  // namespace
}  // namespace detail

Opaque Opaque::make_object(const std::string& class_name, const Dict& fields) {
  return detail::make_opaque(ObjectOpaque::Make::new_object, class_name, {}, fields);
}

Opaque Opaque::make_call(const std::string& global, const Tuple& args) {
  return detail::make_opaque(ObjectOpaque::Make::call, global, args, nullptr);
}

std::string Opaque::global() const {
  return detail::is_container(*object_) ? detail::container_name(*object_) : detail::global_name(*object_);
}

std::string Opaque::class_name() const {
  return detail::is_container(*object_) ? detail::container_name(*object_) : detail::class_name(*object_);
}

bool Opaque::is_global() const noexcept { return object_->is<detail::ObjectGlobal>(); }

Tuple Opaque::args() const {
  const auto* opaque = object_->get<ObjectOpaque>();
  if (opaque == nullptr || opaque->args == nullptr) return {};
  const Value args = detail::opened_to_value(context_, *opaque->args);
  return args.is<Tuple>() ? args.as<Tuple>() : Tuple{args};
}

Dict Opaque::kwargs() const {
  const auto* opaque = object_->get<ObjectOpaque>();
  const Value kwargs = detail::value_of(context_, opaque == nullptr ? nullptr : opaque->kwargs);
  return kwargs.is<Dict>() ? kwargs.as<Dict>() : Dict();
}

Value Opaque::state() const {
  const auto* opaque = object_->get<ObjectOpaque>();
  return detail::value_of(context_, opaque == nullptr ? nullptr : opaque->state);
}

Dict Opaque::fields() const {
  Dict fields;
  detail::add_fields(fields, state());
  return fields;
}

List Opaque::items() const {
  List items;
  if (const auto* opaque = object_->get<ObjectOpaque>()) {
    detail::append_values(items, context_, opaque->items);
    detail::append_values(items, context_, opaque->added);
  } else if (const auto* list = object_->get<detail::ObjectList>()) {
    detail::append_values(items, context_, list->items);
  } else if (const auto* tuple = object_->get<detail::ObjectTuple>()) {
    detail::append_values(items, context_, tuple->items);
  } else if (const auto* set = object_->get<detail::ObjectSet>()) {
    detail::append_values(items, context_, set->items);
  }
  return items;
}

std::vector<std::pair<Value, Value>> Opaque::entries() const {
  const std::vector<std::pair<Object*, Object*>>* entries = nullptr;
  if (const auto* opaque = object_->get<ObjectOpaque>()) entries = &opaque->entries;
  if (const auto* dict = object_->get<detail::ObjectDict>()) entries = &dict->items;
  std::vector<std::pair<Value, Value>> result;
  if (entries == nullptr) return result;
  for (const auto& [key, value] : *entries) {
    result.emplace_back(detail::object_to_value(context_, *key), detail::object_to_value(context_, *value));
  }
  return result;
}

bool operator==(const Opaque& a, const Opaque& b) {
  return a.object_ == b.object_ || detail::Comparison(a.context_, b.context_).equal(a.object_, b.object_);
}

}  // namespace ckptio
