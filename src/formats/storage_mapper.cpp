// SPDX-License-Identifier: Apache-2.0
#include "formats/storage_mapper.h"

#include <ATen/ATen.h>

#include <unordered_map>

#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

class StorageMapper {
 public:
  StorageMapper(const MapLocation& map_location, const std::vector<std::string>& locations)
      : map_location_(map_location), locations_(locations) {}

  void map(Value& value) {
    if (value.is<at::Tensor>()) {
      value = map(value.as<at::Tensor>());
    } else if (value.is<List>()) {
      for (Value& item : value.mutable_as<List>()) map(item);
    } else if (const auto* storage = value.get_if<TypedStorage>()) {
      value = TypedStorage{map(storage->storage), storage->dtype};
    } else if (value.is<Tuple>() && !value.as<Tuple>().is_size()) {
      List items(value.as<Tuple>().begin(), value.as<Tuple>().end());
      for (Value& item : items) map(item);
      value = Tuple(items.begin(), items.end());
    } else if (value.is<Dict>()) {
      Dict& dict = value.mutable_as<Dict>();
      for (auto& [key, item] : dict) map(item);
      if (std::as_const(dict).attributes().empty()) return;
      for (auto& [key, item] : dict.attributes()) map(item);
    }
  }

 private:
  at::Tensor map(const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.is_meta()) return tensor;
    if (!has_plain_storage(tensor)) {
      const auto device = map_location_.device_for("cpu");
      return device ? tensor.to(*device) : tensor;
    }
    const c10::Storage& storage = map(tensor.storage());
    if (storage.unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl()) return tensor;
    at::Tensor moved = at::empty({0}, tensor.options().device(storage.device()).requires_grad(false));
    moved.set_(storage, tensor.storage_offset(), tensor.sizes(), tensor.strides());
    moved._set_conj(tensor.is_conj());
    moved._set_neg(tensor.is_neg());
    return moved.set_requires_grad(tensor.requires_grad());
  }

  const c10::Storage& map(const c10::Storage& storage) {
    const auto [seen, is_new] = mapped_.try_emplace(storage.unsafeGetStorageImpl());
    if (is_new) {
      const std::size_t number = mapped_.size() - 1;
      seen->second = map_location_.map(storage, number < locations_.size() ? locations_[number] : "cpu");
      kept_.push_back(storage);
    }
    return seen->second;
  }

  const MapLocation& map_location_;
  const std::vector<std::string>& locations_;
  std::unordered_map<const c10::StorageImpl*, c10::Storage> mapped_;
  std::vector<c10::Storage> kept_;  // alive until the end, so that no address stands for two
};

}  // namespace

void map_storages(Value& value, const MapLocation& map_location, const std::vector<std::string>& locations) {
  if (map_location.is_none()) return;
  StorageMapper(map_location, locations).map(value);
}

}  // namespace ckptio::detail
