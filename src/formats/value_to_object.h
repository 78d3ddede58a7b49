// SPDX-License-Identifier: Apache-2.0
// Makes inert objects (codec/object.h) of Values, for a file to be written from.
//
// One tensor that stands in two places is one object, storages that tensors share are one storage. What belongs to an
// Opaque is copied as it is: shared references stay shared, cycles stay cycles.
// Threads: one at a time. Errors name the value's path.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ckptio/value.h"
#include "codec/object.h"
#include "hash/hash_table.h"

namespace ckptio::detail {

struct OpaqueContext;

// Whether a reader takes it as the key of a dict's attribute.
bool can_name_attribute(const Value& key);

class ObjectBuilder {
 public:
  // TypeError for a tensor that has no form in a file; ValueError for one that Python's format cannot keep, for what
  // is nested deeper than kMaxDepth, and for a storage that is null.
  Object* add(const Value& value);
  Object* add(const Dict& dict);

  ObjectGraph& graph() { return graph_; }
  // One for each of graph().storages: whose bytes are to be written. They stay alive with this object.
  std::vector<c10::Storage>& storages() { return storages_; }
  // Which object stands for which tensor.
  const std::vector<std::pair<const c10::TensorImpl*, Object*>>& tensors() const { return tensors_; }

  // To be called after the last add(). ValueError where tensors contradict each other.
  void finish() const;

 private:
  Object* add_leaf(const Value& value);
  Object* add_container(const Value& value);
  template <class Items>
  std::vector<Object*> add_items(const Items& items);
  Object* add_dict(const Dict& dict);
  Object* add_torch_type(const Value& value);
  Object* add_tensor(const at::Tensor& tensor);
  std::uint32_t add_storage(const c10::Storage& storage, std::optional<DType> dtype);

  Object* copy(const OpaqueContext& from, const Object& root);
  Object* place_for(const OpaqueContext& from, const Object* object);
  void copy_content(const OpaqueContext& from, const Object& object, Object& to);
  void copy_tensor(const OpaqueContext& from, const ObjectTensor& tensor, Object& to);

  ObjectGraph graph_;
  std::vector<c10::Storage> storages_;
  HashTable<std::uint32_t> storage_numbers_;  // by StorageImpl
  std::vector<std::pair<const c10::TensorImpl*, Object*>> tensors_;
  HashTable<std::uint32_t> tensor_numbers_;  // into tensors_
  std::vector<at::Tensor> kept_;             // parts of tensors, alive until the end so that no address stands for two
  std::unordered_map<const Object*, Object*> copies_;
  std::vector<std::pair<const Object*, Object*>> to_copy_;  // made, but still without content
  bool has_quantized_ = false;
  std::uint32_t depth_ = 0;
};

}  // namespace ckptio::detail
