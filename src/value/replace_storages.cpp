// SPDX-License-Identifier: Apache-2.0
#include "value/replace_storages.h"

#include <ATen/ATen.h>

#include <unordered_map>
#include <vector>

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
      value = replaced(value.as<at::Tensor>());
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
  at::Tensor replaced(const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.is_meta()) return tensor;
    if (!has_plain_storage(tensor)) return replace_other_(tensor);
    const c10::Storage& storage = replaced(tensor.storage());
    if (storage.unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl()) return tensor;
    at::Tensor moved =
        make_view(storage, tensor.scalar_type(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
    if (tensor.is_conj()) moved._set_conj(true);
    if (tensor.is_neg()) moved._set_neg(true);
    return tensor.requires_grad() ? moved.set_requires_grad(true) : moved;
  }

  const c10::Storage& replaced(const c10::Storage& storage) {
    const auto [seen, is_new] = replaced_.try_emplace(storage.unsafeGetStorageImpl());
    if (is_new) {
      seen->second = replace_(storage);
      kept_.push_back(storage);
    }
    return seen->second;
  }

  const std::function<c10::Storage(const c10::Storage&)>& replace_;
  const std::function<at::Tensor(const at::Tensor&)>& replace_other_;
  std::unordered_map<const c10::StorageImpl*, c10::Storage> replaced_;
  std::vector<c10::Storage> kept_;  // alive until the end, so that no address stands for two
};

}  // namespace

void replace_storages(Value& value, const std::function<c10::Storage(const c10::Storage&)>& replace,
                      const std::function<at::Tensor(const at::Tensor&)>& replace_other) {
  Replacer(replace, replace_other).visit(value);
}

}  // namespace ckptio::detail
