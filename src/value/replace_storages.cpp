// SPDX-License-Identifier: Apache-2.0
#include "value/replace_storages.h"

#include <ATen/ATen.h>

#include <vector>

#include "hash/hash_table.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {
namespace {

class Replacer {
 public:
  Replacer(const std::function<c10::Storage(const c10::Storage&)>& replace,
           const std::function<at::Tensor(const at::Tensor&)>& replace_other)
      : replace_(replace), replace_other_(replace_other) {}

  void visit(Value& value) {
    if (value.is<at::Tensor>()) {
      visit_tensor(value);
    } else if (value.is<List>()) {
      for (Value& item : value.mutable_as<List>()) visit(item);
    } else if (const auto* storage = value.get_if<TypedStorage>()) {
      if (storage->storage) value = TypedStorage{replaced(storage->storage), storage->dtype};
    } else if (value.is<Tuple>() && !value.as<Tuple>().is_size()) {
      List items(value.as<Tuple>().begin(), value.as<Tuple>().end());
      for (Value& item : items) visit(item);
      value = Tuple(items.begin(), items.end());
    } else if (value.is<Dict>()) {
      Dict& dict = value.mutable_as<Dict>();
      for (auto& [key, item] : dict) visit(item);
      if (std::as_const(dict).attributes().empty()) return;
      for (auto& [key, item] : dict.attributes()) visit(item);
    }
  }

 private:
  void visit_tensor(Value& value) {
    const at::Tensor& tensor = value.as<at::Tensor>();
    if (!tensor.defined() || tensor.is_meta()) return;
    if (!has_plain_storage(tensor)) {
      value = replace_other_(tensor);
      return;
    }
    const c10::Storage& storage = replaced(tensor.storage());
    if (storage.unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl()) return;
    value = on(storage, tensor);
  }

  static at::Tensor on(const c10::Storage& storage, const at::Tensor& tensor) {
    at::Tensor moved =
        make_view(storage, tensor.scalar_type(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
    if (tensor.is_conj()) moved._set_conj(true);
    if (tensor.is_neg()) moved._set_neg(true);
    return tensor.requires_grad() ? moved.set_requires_grad(true) : moved;
  }

  // Valid until the next one is asked for.
  const c10::Storage& replaced(const c10::Storage& storage) {
    const c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
    const auto number = static_cast<std::uint32_t>(replaced_.size());
    const std::uint32_t known = numbers_.get_or_add(hash_of_address(impl), number, [&](std::uint32_t i) {
      return replaced_[i].from.unsafeGetStorageImpl() == impl;
    });
    if (known == number) replaced_.push_back({storage, replace_(storage)});
    return replaced_[known].to;
  }

  struct Replaced {
    c10::Storage from, to;  // `from` too is alive until the end, so that no address stands for two
  };
  const std::function<c10::Storage(const c10::Storage&)>& replace_;
  const std::function<at::Tensor(const at::Tensor&)>& replace_other_;
  std::vector<Replaced> replaced_;
  HashTable<std::uint32_t> numbers_;  // into it, by StorageImpl
};

}  // namespace

void replace_storages(Value& value, const std::function<c10::Storage(const c10::Storage&)>& replace,
                      const std::function<at::Tensor(const at::Tensor&)>& replace_other) {
  Replacer(replace, replace_other).visit(value);
}

}  // namespace ckptio::detail
