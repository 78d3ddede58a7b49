// SPDX-License-Identifier: Apache-2.0
#include "trainer/stable_tensors.h"

#include <ATen/ATen.h>

#include <cstdint>

#include "hash/hash_table.h"
#include "value/mapped_record.h"
#include "value/replace_storages.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {
namespace {

auto same_as(const c10::StorageImpl* impl) {
  return [impl](const c10::StorageImpl* other) { return other == impl; };
}

class Storages {
 public:
  using Impl = const c10::StorageImpl*;
  void insert(Impl impl) { table_.find_or_add(hash_of_address(impl), impl, same_as(impl)); }
  void erase(Impl impl) {
    if (const Impl* known = table_.find(hash_of_address(impl), same_as(impl))) table_.erase(known);
  }
  bool contains(Impl impl) const { return table_.find(hash_of_address(impl), same_as(impl)) != nullptr; }

 private:
  HashTable<Impl> table_;
};

void add(const at::Tensor& tensor, Storages& storages) {
  if (tensor.defined() && has_plain_storage(tensor)) storages.insert(tensor.storage().unsafeGetStorageImpl());
}

void add_all(const Value& value, Storages& storages) {
  if (value.is<at::Tensor>()) {
    add(value.as<at::Tensor>(), storages);
  } else if (value.is<Dict>()) {
    for (const auto& [key, item] : value.as<Dict>()) add_all(item, storages);
  } else if (value.is<List>()) {
    for (const Value& item : value.as<List>()) add_all(item, storages);
  }
}

}  // namespace

void copy_unstable_tensors(const Run& run, Checkpoint& checkpoint) {
  Storages stable;
  for (const at::Tensor& parameter : run.module->parameters()) add(parameter, stable);
  if (const Value* states = checkpoint.find("optimizer_states")) add_all(*states, stable);
  // A buffer that shares a parameter's storage makes all of it unstable.
  for (const at::Tensor& buffer : run.module->buffers()) {
    if (buffer.defined() && has_plain_storage(buffer)) stable.erase(buffer.storage().unsafeGetStorageImpl());
  }
  Value value(std::move(checkpoint));
  replace_storages(
      value,
      [&](const c10::Storage& storage) {
        if (stable.contains(storage.unsafeGetStorageImpl())) return storage;
        // No bytes to copy where there should be some: the plugin's to refuse.
        if (storage.nbytes() > 0 && storage.data() == nullptr) return storage;
        verify_storage(storage);
        return bytes_of(storage).clone().storage();
      },
      [](const at::Tensor& tensor) { return tensor.clone(); });
  checkpoint = std::move(value.mutable_as<Dict>());
}

}  // namespace ckptio::detail
