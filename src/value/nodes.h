// SPDX-License-Identifier: Apache-2.0
// What containers keep on the heap, so that their contents stay in place when the container itself moves.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "ckptio/value.h"
#include "hash/hash_table.h"
#include "value/opaque_access.h"

namespace ckptio::detail {

const char* python_name(DictType type);  // "dict", "OrderedDict", "Counter"

std::uint64_t hash_key(const Value& key);  // TypeError for what cannot be a key
// As ==, but an Opaque is equal to itself alone: to compare two costs as much as a file makes it.
bool equal_keys(const Value& a, const Value& b);

struct Node {
  const Node* parent = nullptr;  // the contents that hold this container; null for an outermost one
  const bool is_dict;
  explicit Node(bool dict) noexcept : is_dict(dict) {}
};

struct SequenceNode : Node {
  SequenceNode() noexcept : Node(false) {}
  std::vector<Value> items;
  bool is_size = false;  // of a Tuple: torch.Size
};

struct DictNode : Node {
  using Items = std::list<Dict::value_type>;

  DictNode() : Node(true) {}
  // items.end() where there is none. `hash`, here and below: of the key, by hash_key().
  Items::iterator find(const Value& key, std::uint64_t hash);
  // The value of a new entry. Requires: there is no such key.
  Value& append(Value key, std::uint64_t hash);
  void erase(Items::iterator item);
  // Those for which `is_unwanted(item)` says so, asked in order.
  template <class IsUnwanted>
  void erase_if(IsUnwanted is_unwanted) {
    drop_index();  // first, as is_unwanted may throw
    items.remove_if(is_unwanted);
    if (items.size() > kMaxScanned) build_index();
  }
  void clear() noexcept;
  void reserve(std::size_t n_items);

  Items items;                       // whose elements never move
  std::unique_ptr<Dict> attributes;  // null: none
  DictType type = DictType::dict;

 private:
  void build_index();
  void drop_index() noexcept;
  void add_to_index(Items::iterator item, std::uint64_t hash);

  // Up to so many items are looked through, and have no table: most dicts are of that kind.
  static constexpr std::size_t kMaxScanned = 8;

  bool is_indexed_ = false;
  HashTable<Items::iterator> index_;
};

// The way into Value's private parts for the files of this folder.
struct ValueAccess {
  static void set_parent(Value& value, const Node* parent) noexcept {
    value.parent_ = parent;
    value.link();
  }
  static Node* node(const Value& value) noexcept;
  static const Node* parent(const Value& value) noexcept { return value.parent_; }
  static const Node* node(const Dict& dict) noexcept { return dict.node_.get(); }
  static const Node* node(const Sequence& sequence) noexcept { return sequence.node_.get(); }
  static DictNode& materialize(Dict& dict) { return dict.node(); }
  static DictNode& materialize(Set& set) { return set.items_.node(); }
  static const Dict& keys(const Set& set) noexcept { return set.items_; }
  static Dict& keys(Set& set) noexcept { return set.items_; }
  // Adds an entry without copying the key. Null where there is such a key already, or it cannot be one.
  static Value* insert(Dict& dict, Value key);
  static void reserve(Dict& dict, std::size_t n_items) { dict.node().reserve(n_items); }
  static Tuple to_tuple(List&& items) noexcept {
    Tuple tuple;
    static_cast<Sequence&>(tuple) = std::move(items);
    return tuple;
  }
  static void set_size(Tuple& tuple) { tuple.node().is_size = true; }
  static SequenceNode& materialize(Sequence& sequence) { return sequence.node(); }
};

// "checkpoint['a'][0]" for the contents `node`.
std::string path_of(const Node* node);
// The same with one step more.
std::string step(const std::string& path, const Value& key);

}  // namespace ckptio::detail
