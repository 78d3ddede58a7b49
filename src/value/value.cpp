// SPDX-License-Identifier: Apache-2.0
#include "ckptio/value.h"

#include <algorithm>
#include <functional>

#include "value/nodes.h"

namespace ckptio {

using detail::Node;
using detail::ValueAccess;

namespace detail {

Node* ValueAccess::node(const Value& value) noexcept {
  if (const auto* list = value.get_if<List>()) return list->node_.get();
  if (const auto* tuple = value.get_if<Tuple>()) return tuple->node_.get();
  if (const auto* dict = value.get_if<Dict>()) return dict->node_.get();
  if (const auto* set = value.get_if<Set>()) return set->items_.node_.get();
  return nullptr;
}

const char* python_name(DictType type) {
  switch (type) {
    case DictType::ordered_dict:
      return "OrderedDict";
    case DictType::counter:
      return "Counter";
    default:
      return "dict";
  }
}

DictNode::Items::iterator DictNode::find(const Value& key, std::uint64_t hash) {
  const auto is_it = [&key](Items::iterator item) { return equal_keys(item->first, key); };
  if (is_indexed_) {
    const Items::iterator* found = index_.find(hash, is_it);
    return found == nullptr ? items.end() : *found;
  }
  auto item = items.begin();
  while (item != items.end() && !is_it(item)) ++item;
  return item;
}

Value& DictNode::append(Value key, std::uint64_t hash) {
  const auto item = items.emplace(items.end(), std::move(key), Value());
  ValueAccess::set_parent(const_cast<Value&>(item->first), this);
  ValueAccess::set_parent(item->second, this);
  if (is_indexed_) {
    add_to_index(item, hash);
  } else if (items.size() > kMaxScanned) {
    build_index();
  }
  return item->second;
}

void DictNode::erase(Items::iterator item) {
  if (is_indexed_) {
    index_.erase(index_.find(hash_key(item->first), [item](Items::iterator other) { return other == item; }));
  }
  items.erase(item);
}

void DictNode::clear() noexcept {
  drop_index();
  items.clear();
}

void DictNode::reserve(std::size_t n_items) {
  if (n_items <= kMaxScanned) return;
  index_.reserve(n_items);
  if (!is_indexed_) build_index();
}

void DictNode::build_index() {
  is_indexed_ = true;
  for (auto item = items.begin(); item != items.end(); ++item) add_to_index(item, hash_key(item->first));
}

void DictNode::drop_index() noexcept {
  is_indexed_ = false;
  index_.clear();
}

void DictNode::add_to_index(Items::iterator item, std::uint64_t hash) {
  index_.find_or_add(hash, item, [](Items::iterator) { return false; });
}

Value* ValueAccess::insert(Dict& dict, Value key) {
  std::uint64_t hash = 0;
  try {
    hash = hash_key(key);
  } catch (const TypeError&) {
    return nullptr;
  }
  DictNode& node = dict.node();
  return node.find(key, hash) != node.items.end() ? nullptr : &node.append(std::move(key), hash);
}

std::string step(const std::string& path, const Value& key) { return path + "[" + to_string(key) + "]"; }

// The step from the contents `node` to the item for which `is_it` holds.
template <class Predicate>
static std::string step_to(const Node& node, const Predicate& is_it) {
  const std::string path = path_of(&node);
  if (node.is_dict) {
    for (const auto& [key, value] : static_cast<const DictNode&>(node).items) {
      if (is_it(key) || is_it(value)) return step(path, key);
    }
  } else {
    std::int64_t index = 0;
    for (const Value& item : static_cast<const SequenceNode&>(node).items) {
      if (is_it(item)) return step(path, index);
      ++index;
    }
  }
  return path;
}

std::string path_of(const Node* node) {
  if (node == nullptr || node->parent == nullptr) return node == nullptr || node->is_dict ? "checkpoint" : "value";
  if (node->parent->is_dict) {
    const auto& attributes = static_cast<const DictNode*>(node->parent)->attributes;
    if (attributes && ValueAccess::node(*attributes) == node) return path_of(node->parent) + ".__dict__";
  }
  return step_to(*node->parent, [node](const Value& item) { return ValueAccess::node(item) == node; });
}

static std::uint64_t combine(std::uint64_t seed, std::uint64_t hash) { return hash_of(seed ^ hash_of(hash)); }

std::uint64_t hash_key(const Value& key) {
  if (const auto* text = key.get_if<std::string>()) return hash_of(std::string_view(*text));
  if (const auto* number = key.get_if<std::int64_t>()) return combine(1, static_cast<std::uint64_t>(*number));
  if (const auto* flag = key.get_if<bool>()) return combine(2, *flag ? 1 : 0);
  if (key.is_null()) return combine(3, 0);
  if (const auto* real = key.get_if<double>()) return combine(4, *real != *real ? 0 : std::hash<double>()(*real));
  if (const auto* complex = key.get_if<std::complex<double>>()) {
    return combine(hash_key(complex->real()), hash_key(complex->imag()));
  }
  if (const auto* bytes = key.get_if<Bytes>()) return combine(5, hash_of(bytes->view()));
  if (const auto* big = key.get_if<BigInt>()) {
    const auto& octets = big->twos_complement();
    return combine(6, hash_of(std::string_view(reinterpret_cast<const char*>(octets.data()), octets.size())));
  }
  if (const auto* tuple = key.get_if<Tuple>()) {
    std::uint64_t hash = 7;
    for (const Value& item : *tuple) hash = combine(hash, hash_key(item));
    return hash;
  }
  if (const auto* set = key.get_if<Set>(); set != nullptr && set->is_frozen()) {
    std::uint64_t hash = 8;
    for (const Value& item : *set) hash += combine(0, hash_key(item));  // in any order
    return hash_of(hash);
  }
  if (const auto* type = key.get_if<c10::ScalarType>()) return combine(9, static_cast<std::size_t>(*type));
  if (const auto* device = key.get_if<c10::Device>()) return combine(10, std::hash<c10::Device>()(*device));
  if (const auto* layout = key.get_if<c10::Layout>()) return combine(11, static_cast<std::size_t>(*layout));
  if (const auto* scheme = key.get_if<c10::QScheme>()) return combine(12, static_cast<std::size_t>(*scheme));
  if (const auto* opaque = key.get_if<Opaque>()) return combine(13, OpaqueAccess::identity(*opaque));
  throw TypeError(std::string("a ") + key.type_name() + " cannot be a key of a dict: " + to_string(key));
}

bool equal_keys(const Value& a, const Value& b) {
  if (const auto* opaque = a.get_if<Opaque>()) {
    return b.is<Opaque>() && opaque->same_object(b.as<Opaque>());
  }
  if (const auto* tuple = a.get_if<Tuple>()) {
    const auto* other = b.get_if<Tuple>();
    return other != nullptr && std::equal(tuple->begin(), tuple->end(), other->begin(), other->end(), equal_keys);
  }
  if (const auto* set = a.get_if<Set>()) {
    const auto* other = b.get_if<Set>();
    return other != nullptr && set->is_frozen() == other->is_frozen() && set->size() == other->size() &&
           std::all_of(set->begin(), set->end(), [other](const Value& item) { return other->contains(item); });
  }
  return a == b;
}

// --- Sequence

Sequence::Sequence() noexcept = default;
Sequence::Sequence(std::initializer_list<Value> items) {
  if (items.size() == 0) return;
  node().items = items;
  for (Value& item : node_->items) ValueAccess::set_parent(item, node_.get());
}
Sequence::Sequence(const Sequence& other) {
  if (!other.node_) return;
  node().items = other.node_->items;
  node_->is_size = other.node_->is_size;
  for (Value& item : node_->items) ValueAccess::set_parent(item, node_.get());
}
Sequence::Sequence(Sequence&& other) noexcept : node_(std::move(other.node_)) {
  if (node_) node_->parent = nullptr;
}
Sequence& Sequence::operator=(const Sequence& other) { return *this = Sequence(other); }
Sequence& Sequence::operator=(Sequence&& other) noexcept {
  const Node* parent = node_ ? node_->parent : nullptr;
  auto taken = std::move(other.node_);  // first, as `other` may stand inside of *this
  node_ = std::move(taken);
  if (node_) node_->parent = parent;
  return *this;
}
Sequence::~Sequence() = default;

SequenceNode& Sequence::node() {
  if (!node_) node_ = std::make_unique<SequenceNode>();
  return *node_;
}

std::size_t Sequence::size() const noexcept { return node_ ? node_->items.size() : 0; }
const Value* Sequence::begin() const noexcept { return node_ ? node_->items.data() : nullptr; }
const Value* Sequence::end() const noexcept { return begin() + size(); }

const Value& Sequence::at(std::int64_t index) const {
  const auto n_items = static_cast<std::int64_t>(size());
  const std::int64_t position = index < 0 ? index + n_items : index;
  if (position < 0 || position >= n_items) {
    throw IndexError(path_of(node_.get()) + ": no item " + std::to_string(index) + ", there are " +
                     std::to_string(n_items));
  }
  return node_->items[static_cast<std::size_t>(position)];
}

static bool equal_items(const Sequence& a, const Sequence& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
}

}  // namespace detail

Value& List::at(std::int64_t index) { return const_cast<Value&>(Sequence::at(index)); }
Value* List::begin() noexcept { return const_cast<Value*>(Sequence::begin()); }
Value* List::end() noexcept { return const_cast<Value*>(Sequence::end()); }

void List::push_back(Value value) {
  auto& items = node().items;
  const bool moves = items.size() == items.capacity();
  items.push_back(std::move(value));
  if (moves) {
    for (Value& item : items) ValueAccess::set_parent(item, node_.get());
  } else {
    ValueAccess::set_parent(items.back(), node_.get());
  }
}

void List::reserve(std::size_t n_items) {
  node().items.reserve(n_items);
  for (Value& item : node_->items) ValueAccess::set_parent(item, node_.get());
}

void List::clear() noexcept {
  if (node_) node_->items.clear();
}

bool operator==(const List& a, const List& b) { return detail::equal_items(a, b); }
bool operator==(const Tuple& a, const Tuple& b) { return detail::equal_items(a, b); }

Tuple Tuple::make_size(c10::IntArrayRef sizes) {
  Tuple result(sizes.begin(), sizes.end());
  result.node().is_size = true;
  return result;
}
bool Tuple::is_size() const noexcept { return node_ && node_->is_size; }

// --- Dict

Dict::Dict() noexcept = default;
Dict::Dict(std::initializer_list<std::pair<Value, Value>> items) {
  for (const auto& [key, value] : items) (*this)[key] = value;
}
Dict::Dict(const Dict& other) {
  if (!other.empty()) node().reserve(other.size());
  for (const auto& [key, value] : other) node().append(key, detail::hash_key(key)) = value;
  if (other.type() == DictType::dict) return;
  set_type(other.type());
  if (other.node_->attributes) attributes() = *other.node_->attributes;
}
Dict::Dict(Dict&& other) noexcept : node_(std::move(other.node_)) {
  if (node_) node_->parent = nullptr;
}
Dict& Dict::operator=(const Dict& other) { return *this = Dict(other); }
Dict& Dict::operator=(Dict&& other) noexcept {
  const Node* parent = node_ ? node_->parent : nullptr;
  auto taken = std::move(other.node_);
  node_ = std::move(taken);
  if (node_) node_->parent = parent;
  return *this;
}
Dict::~Dict() = default;

detail::DictNode& Dict::node() {
  if (!node_) node_ = std::make_unique<detail::DictNode>();
  return *node_;
}

std::size_t Dict::size() const noexcept { return node_ ? node_->items.size() : 0; }
Dict::iterator Dict::begin() noexcept { return node_ ? node_->items.begin() : iterator(); }
Dict::iterator Dict::end() noexcept { return node_ ? node_->items.end() : iterator(); }
Dict::const_iterator Dict::begin() const noexcept { return node_ ? node_->items.cbegin() : const_iterator(); }
Dict::const_iterator Dict::end() const noexcept { return node_ ? node_->items.cend() : const_iterator(); }

const Value* Dict::find(const Value& key) const {
  if (!node_) return nullptr;
  const auto found = node_->find(key, detail::hash_key(key));
  return found == node_->items.end() ? nullptr : &found->second;
}
Value* Dict::find(const Value& key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

Value Dict::get(const Value& key, const Value& fallback) const {
  const Value* found = find(key);
  return found == nullptr ? fallback : *found;
}

Value& Dict::operator[](const Value& key) {
  const std::uint64_t hash = detail::hash_key(key);  // refuses what cannot be a key before anything is inserted
  const auto found = node().find(key, hash);
  return found != node_->items.end() ? found->second : node_->append(key, hash);
}

bool Dict::erase(const Value& key) {
  if (!node_) return false;
  const auto item = node_->find(key, detail::hash_key(key));
  if (item == node_->items.end()) return false;
  node_->erase(item);
  return true;
}

void Dict::clear() noexcept {
  if (node_) node_->clear();
}

DictType Dict::type() const noexcept { return node_ ? node_->type : DictType::dict; }

void Dict::set_type(DictType type) {
  if (type == this->type()) return;
  node().type = type;
  if (type == DictType::dict) node_->attributes.reset();
}

const Dict& Dict::attributes() const noexcept {
  static const Dict none;
  return node_ && node_->attributes ? *node_->attributes : none;
}

Dict& Dict::attributes() {
  if (type() == DictType::dict) {
    throw TypeError(detail::path_of(node_.get()) + ": a plain dict has no attributes, an OrderedDict has");
  }
  if (!node_->attributes) node_->attributes = std::make_unique<Dict>();
  node_->attributes->node().parent = node_.get();
  return *node_->attributes;
}

// Only Opaques, alone or in tuples, can be equal and yet be two keys: those are looked for one by one.
static const Value* find_equal(const Dict& dict, const Value& key) {
  if (const Value* found = dict.find(key)) return found;
  if (!key.is<Opaque>() && !key.is<Tuple>()) return nullptr;
  for (const auto& [other, value] : dict) {
    if (other == key) return &value;
  }
  return nullptr;
}

bool operator==(const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a) {
    const Value* other = find_equal(b, key);
    if (other == nullptr || !(*other == value)) return false;
  }
  return true;
}

// --- Set

Set::Set(std::initializer_list<Value> items) : Set(items.begin(), items.end()) {}

Set Set::make_frozen(Set items) noexcept {
  items.frozen_ = true;
  return items;
}

bool Set::insert(const Value& item) {
  const std::size_t before = size();
  items_[item];
  return size() > before;
}

Set::const_iterator Set::begin() const noexcept { return const_iterator(items_.begin()); }
Set::const_iterator Set::end() const noexcept { return const_iterator(items_.end()); }

bool operator==(const Set& a, const Set& b) { return a.frozen_ == b.frozen_ && a.items_ == b.items_; }

// --- Value

Value::Value(BigInt value) {
  if (const auto small = value.to_int64()) {
    held_ = *small;
  } else {
    held_ = std::move(value);
  }
}

Value& Value::operator=(Value&& other) noexcept {
  Held taken = std::move(other.held_);  // first, as `other` may stand inside of *this
  held_ = std::move(taken);
  link();
  return *this;
}

void Value::link() noexcept {
  if (Node* node = ValueAccess::node(*this)) node->parent = parent_;
}

void Value::materialize() {
  if (auto* list = std::get_if<List>(&held_)) ValueAccess::materialize(*list);
  if (auto* tuple = std::get_if<Tuple>(&held_)) ValueAccess::materialize(*tuple);
  if (auto* dict = std::get_if<Dict>(&held_)) ValueAccess::materialize(*dict);
  if (auto* set = std::get_if<Set>(&held_)) ValueAccess::materialize(*set);
  link();
}

const char* Value::type_name() const noexcept {
  return std::visit(
      []<class T>([[maybe_unused]] const T& held) {
        if constexpr (std::same_as<T, std::monostate>) {
          return "NoneType";
        } else if constexpr (std::same_as<T, Dict>) {
          return detail::python_name(held.type());
        } else if constexpr (std::same_as<T, Tuple>) {
          return held.is_size() ? "Size" : "tuple";
        } else if constexpr (std::same_as<T, Set>) {
          return held.is_frozen() ? "frozenset" : "set";
        } else {
          return detail::python_name<T>();
        }
      },
      held_);
}

std::string Value::path() const {
  if (parent_ == nullptr) return get_if<Dict>() != nullptr ? "checkpoint" : "value";
  return detail::step_to(*parent_, [this](const Value& item) { return &item == this; });
}

void Value::throw_type(const char* asked) const {
  throw TypeError(path() + ": is " + (is_null() ? "None" : type_name()) + ", asked for " + asked);
}

void Value::throw_range() const {
  throw ValueError(path() + ": the integer " + to_string(*this) + " does not fit the type asked for");
}

const Value& Value::at(const Value& key) const {
  if (const auto* dict = get_if<Dict>()) return dict->at(key);
  const detail::Sequence* items = get_if<List>();
  if (items == nullptr) items = get_if<Tuple>();
  if (items == nullptr) {
    throw TypeError(path() + ": is " + (is_null() ? "None" : type_name()) + ", has no entry " + to_string(key));
  }
  const auto* index = key.get_if<std::int64_t>();
  if (index == nullptr) {
    throw TypeError(path() + ": is " + type_name() + ", asked for the entry " + to_string(key) +
                    "; its items have integer positions");
  }
  return items->at(*index);
}

Value& Value::at(const Value& key) { return const_cast<Value&>(std::as_const(*this).at(key)); }

Value& Value::operator[](const Value& key) {
  if (is_null()) *this = Dict();
  if (auto* dict = std::get_if<Dict>(&held_)) {
    materialize();
    return (*dict)[key];
  }
  return at(key);
}

bool Value::contains(const Value& key) const {
  if (const auto* set = get_if<Set>()) return set->contains(key);
  const auto* dict = get_if<Dict>();
  if (dict == nullptr) throw_type("dict or set");
  return dict->contains(key);
}

std::size_t Value::size() const {
  if (const auto* dict = get_if<Dict>()) return dict->size();
  if (const auto* list = get_if<List>()) return list->size();
  if (const auto* tuple = get_if<Tuple>()) return tuple->size();
  if (const auto* set = get_if<Set>()) return set->size();
  throw_type("dict, list, tuple or set");
}

}  // namespace ckptio
