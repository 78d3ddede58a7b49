// SPDX-License-Identifier: Apache-2.0
#include "ckptio/value.h"

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
  return nullptr;
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
  return step_to(*node->parent, [node](const Value& item) { return ValueAccess::node(item) == node; });
}

static std::size_t combine(std::size_t seed, std::size_t hash) {
  return seed ^ (hash + 0x9e3779b97f4a7c15ULL + (seed << 6) + (seed >> 2));
}

std::size_t hash_key(const Value& key) {
  if (const auto* text = key.get_if<std::string>()) return std::hash<std::string>()(*text);
  if (const auto* number = key.get_if<std::int64_t>()) return combine(1, std::hash<std::int64_t>()(*number));
  if (const auto* flag = key.get_if<bool>()) return combine(2, *flag ? 1 : 0);
  if (key.is_null()) return 3;
  if (const auto* real = key.get_if<double>()) return combine(4, *real != *real ? 0 : std::hash<double>()(*real));
  if (const auto* complex = key.get_if<std::complex<double>>()) {
    return combine(hash_key(complex->real()), hash_key(complex->imag()));
  }
  if (const auto* bytes = key.get_if<Bytes>()) return combine(5, std::hash<std::string_view>()(bytes->view()));
  if (const auto* big = key.get_if<BigInt>()) {
    const auto& octets = big->twos_complement();
    return combine(6, std::hash<std::string_view>()({reinterpret_cast<const char*>(octets.data()), octets.size()}));
  }
  if (const auto* tuple = key.get_if<Tuple>()) {
    std::size_t hash = 7;
    for (const Value& item : *tuple) hash = combine(hash, hash_key(item));
    return hash;
  }
  throw TypeError(std::string("a ") + key.type_name() + " cannot be a key of a dict: " + to_string(key));
}

// --- Sequence

Sequence::Sequence() noexcept = default;
Sequence::Sequence(std::initializer_list<Value> items) {
  if (items.size() == 0) return;
  node().items = items;
  for (Value& item : node_->items) ValueAccess::set_parent(item, node_.get());
}
Sequence::Sequence(const Sequence& other) {
  if (other.empty()) return;
  node().items = other.node_->items;
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

// --- Dict

Dict::Dict() noexcept = default;
Dict::Dict(std::initializer_list<std::pair<Value, Value>> items) {
  for (const auto& [key, value] : items) (*this)[key] = value;
}
Dict::Dict(const Dict& other) {
  for (const auto& [key, value] : other) (*this)[key] = value;
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
  const auto found = node_->index.find(&key);
  return found == node_->index.end() ? nullptr : &found->second->second;
}
Value* Dict::find(const Value& key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

Value Dict::get(const Value& key, const Value& fallback) const {
  const Value* found = find(key);
  return found == nullptr ? fallback : *found;
}

Value& Dict::operator[](const Value& key) {
  if (Value* found = find(key)) return *found;
  detail::DictNode& contents = node();
  detail::hash_key(key);  // refuses what cannot be a key before anything is inserted
  const auto item = contents.items.emplace(contents.items.end(), key, Value());
  contents.index.emplace(&item->first, item);
  ValueAccess::set_parent(const_cast<Value&>(item->first), &contents);
  ValueAccess::set_parent(item->second, &contents);
  return item->second;
}

bool Dict::erase(const Value& key) {
  if (!node_) return false;
  const auto found = node_->index.find(&key);
  if (found == node_->index.end()) return false;
  const auto item = found->second;
  node_->index.erase(found);
  node_->items.erase(item);
  return true;
}

void Dict::clear() noexcept {
  if (!node_) return;
  node_->index.clear();
  node_->items.clear();
}

bool operator==(const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a) {
    const Value* other = b.find(key);
    if (other == nullptr || !(*other == value)) return false;
  }
  return true;
}

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
  link();
}

const char* Value::type_name() const noexcept {
  return std::visit(
      []<class T>(const T&) {
        if constexpr (std::same_as<T, std::monostate>) {
          return "NoneType";
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
  const auto* dict = get_if<Dict>();
  if (dict == nullptr) throw_type("dict");
  return dict->contains(key);
}

std::size_t Value::size() const {
  if (const auto* dict = get_if<Dict>()) return dict->size();
  if (const auto* list = get_if<List>()) return list->size();
  if (const auto* tuple = get_if<Tuple>()) return tuple->size();
  throw_type("dict, list or tuple");
}

}  // namespace ckptio
