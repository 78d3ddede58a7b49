// SPDX-License-Identifier: Apache-2.0
// What containers keep on the heap, so that their contents stay in place when the container itself moves.
#pragma once

#include <list>
#include <unordered_map>
#include <vector>

#include "ckptio/value.h"

namespace ckptio::detail {

std::size_t hash_key(const Value& key);  // TypeError for what cannot be a key

struct KeyHash {
  std::size_t operator()(const Value* key) const { return hash_key(*key); }
};
struct KeyEqual {
  bool operator()(const Value* a, const Value* b) const { return *a == *b; }
};

struct Node {
  const Node* parent = nullptr;  // the contents that hold this container; null for an outermost one
  const bool is_dict;
  explicit Node(bool dict) noexcept : is_dict(dict) {}
};

struct SequenceNode : Node {
  SequenceNode() noexcept : Node(false) {}
  std::vector<Value> items;
};

struct DictNode : Node {
  DictNode() : Node(true) {}
  std::list<Dict::value_type> items;
  // Keys point into `items`, whose elements never move.
  std::unordered_map<const Value*, std::list<Dict::value_type>::iterator, KeyHash, KeyEqual> index;
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
  static SequenceNode& materialize(Sequence& sequence) { return sequence.node(); }
};

// "checkpoint['a'][0]" for the contents `node`.
std::string path_of(const Node* node);
// The same with one step more.
std::string step(const std::string& path, const Value& key);

}  // namespace ckptio::detail
