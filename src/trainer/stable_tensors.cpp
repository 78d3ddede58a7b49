// SPDX-License-Identifier: Apache-2.0
#include "trainer/stable_tensors.h"

#include <ATen/ATen.h>

#include <vector>

#include "codec/flat_index.h"
#include "value/mapped_record.h"
#include "value/replace_storages.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {
namespace {

// Without an allocation for each.
class Storages {
 public:
  void insert(const c10::StorageImpl* impl) { at(impl).is_in = true; }
  void erase(const c10::StorageImpl* impl) { at(impl).is_in = false; }
  bool contains(const c10::StorageImpl* impl) const {
    const auto known = numbers_.find(FlatIndex::hash(impl), [&](std::uint32_t i) { return known_[i].impl == impl; });
    return known && known_[*known].is_in;
  }

 private:
  struct Known {
    const c10::StorageImpl* impl;
    bool is_in;
  };
  Known& at(const c10::StorageImpl* impl) {
    const auto number = static_cast<std::uint32_t>(known_.size());
    const std::uint32_t known =
        numbers_.find_or_add(FlatIndex::hash(impl), number, [&](std::uint32_t i) { return known_[i].impl == impl; });
    if (known == number) known_.push_back({impl, false});
    return known_[known];
  }

  std::vector<Known> known_;
  FlatIndex numbers_;
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
        verify_storage(storage);
        return bytes_of(storage).clone().storage();
      },
      [](const at::Tensor& tensor) { return tensor.clone(); });
  checkpoint = std::move(value.mutable_as<Dict>());
}

}  // namespace ckptio::detail
