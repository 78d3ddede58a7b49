// SPDX-License-Identifier: Apache-2.0
#include "decorators/snapshot.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "formats/object_to_value.h"
#include "formats/opaque_context.h"
#include "formats/value_to_object.h"
#include "value/mapped_record.h"
#include "value/nodes.h"
#include "value/opaque_access.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

bool is_view_of_storage(const at::Tensor& tensor) {
  return has_plain_storage(tensor) && !tensor.is_meta() && !tensor._is_zerotensor();
}

bool has_storages(const Opaque& opaque) {
  const auto& storages = OpaqueAccess::context(opaque)->storages;
  return std::any_of(storages.begin(), storages.end(), [](const c10::Storage& storage) { return bool(storage); });
}

// A storage at `data` that keeps the buffer from being used again.
c10::Storage storage_in(const std::shared_ptr<StagingBuffer>& buffer, std::size_t offset, std::size_t n_bytes) {
  const auto owner = new std::shared_ptr<StagingBuffer>(buffer);
  const auto release = [](void* context) { delete static_cast<std::shared_ptr<StagingBuffer>*>(context); };
  c10::DataPtr data(n_bytes == 0 ? nullptr : buffer->data() + offset, owner, release, c10::Device(c10::kCPU));
  return {c10::Storage::use_byte_size_t(), n_bytes, std::move(data), nullptr, false};
}

}  // namespace

Snapshot::Snapshot(const Checkpoint& checkpoint, std::string path) : path_(std::move(path)), checkpoint_(checkpoint) {
  const at::NoGradGuard no_grad;
  add(checkpoint_);
  add_objects();
}

Snapshot::~Snapshot() = default;

void Snapshot::add(Dict& dict) {
  for (auto& [key, value] : dict) add(value);
  if (!std::as_const(dict).attributes().empty()) add(dict.attributes());
}

void Snapshot::add(Value& value) {
  if (value.is<Dict>()) {
    add(value.mutable_as<Dict>());
  } else if (value.is<List>()) {
    for (Value& item : value.mutable_as<List>()) add(item);
  } else if (value.is<Tuple>()) {
    for (Value& item : ValueAccess::materialize(value.mutable_as<Tuple>()).items) add(item);
  } else if (value.is<at::Tensor>()) {
    add_tensor(value);
  } else if (const auto* held = value.get_if<TypedStorage>()) {
    if (held->storage && held->storage.device().type() != c10::kMeta) {
      storage_places_.emplace_back(&value, add_storage(held->storage));
    }
  } else if (const auto* opaque = value.get_if<Opaque>()) {
    if (has_storages(*opaque)) opaque_places_.emplace_back(&value, add_object(value));
  }
}

void Snapshot::add_tensor(Value& value) {
  const at::Tensor& tensor = value.as<at::Tensor>();
  if (!tensor.defined()) return;
  const auto [known, is_new] = tensor_numbers_.try_emplace(tensor.unsafeGetTensorImpl(), tensors_.size());
  if (is_new) {
    try {
      tensors_.push_back(take(value, tensor));
    } catch (const c10::Error& error) {
      throw TypeError("cannot save '" + path_ + "': " + value.path() +
                      ": a tensor that cannot be copied: " + error.what_without_backtrace());
    }
  }
  tensor_places_.emplace_back(&value, known->second);
}

Snapshot::TensorCopy Snapshot::take(const Value& value, const at::Tensor& tensor) {
  TensorCopy copy;
  copy.from = tensor;
  copy.place = &value;
  if (tensor.is_cpu() && !tensor.is_inference()) copy.version = static_cast<std::uint32_t>(tensor._version());
  if (is_view_of_storage(tensor)) {
    copy.storage = add_storage(tensor.storage());
    copy.sizes = tensor.sizes().vec();
    copy.strides = tensor.strides().vec();
    copy.offset = tensor.storage_offset();
  } else if (tensor.is_meta()) {
    copy.to = tensor.detach().set_requires_grad(tensor.requires_grad());
  } else {
    try {
      copy.object = add_object(value);
    } catch (const Error&) {  // it has no form in our files, but maybe in the wrapped plugin's
      copy.to = tensor.detach().clone().set_requires_grad(tensor.requires_grad());
    }
  }
  return copy;
}

std::size_t Snapshot::add_storage(const c10::Storage& storage) {
  const auto [known, is_new] = storage_numbers_.try_emplace(storage.unsafeGetStorageImpl(), storages_.size());
  if (!is_new) return known->second;
  verify_storage(storage);
  StorageCopy copy{storage, {}, 0};
  if (storage.device().is_cpu()) {
    copy.offset = end_;
    end_ = align_staging(end_ + storage.nbytes());
  } else {  // here and now, in the order of the device's work that this thread gave it
    copy.to = bytes_of(storage).cpu().storage();
  }
  n_bytes_ += static_cast<std::int64_t>(storage.nbytes());
  storages_.push_back(std::move(copy));
  return known->second;
}

const Object* Snapshot::add_object(const Value& value) {
  if (!builder_) builder_ = std::make_unique<ObjectBuilder>();
  return objects_.emplace_back(builder_->add(value));
}

void Snapshot::add_objects() {
  if (!builder_) return;
  for (const c10::Storage& storage : builder_->storages()) {
    object_storages_.push_back(storage ? std::optional(add_storage(storage)) : std::nullopt);
  }
}

void Snapshot::stage(StagingMemory& memory, WorkerPool& pool) {
  buffer_ = memory.acquire(end_);
  std::vector<StagingCopy> copies;
  copies.reserve(storages_.size());
  for (const StorageCopy& storage : storages_) {
    if (!storage.to) copies.push_back({storage.from.data(), storage.from.nbytes(), storage.offset});
  }
  copy_to(*buffer_, copies, pool);
  require_unchanged();
}

void Snapshot::require_unchanged() const {
  for (const TensorCopy& tensor : tensors_) {
    if (!tensor.version || static_cast<std::uint32_t>(tensor.from._version()) == *tensor.version) continue;
    throw ValueError("cannot save '" + path_ + "': " + tensor.place->path() +
                     " was changed in place before the save was staged: wait(SaveStage::Staged) comes first");
  }
}

void Snapshot::settle() {
  const at::NoGradGuard no_grad;
  for (StorageCopy& storage : storages_) {
    if (!storage.to) storage.to = storage_in(buffer_, storage.offset, storage.from.nbytes());
  }
  for (TensorCopy& tensor : tensors_) {
    if (tensor.storage) tensor.to = copy_of(tensor);
  }
  settle_objects();
  for (const auto& [value, index] : tensor_places_) *value = tensors_[index].to;
  for (const auto& [value, index] : storage_places_) {
    *value = TypedStorage{storages_[index].to, value->as<TypedStorage>().dtype};
  }
  tensors_.clear();
  storages_.clear();
  builder_.reset();
  buffer_.reset();  // the storages have it
}

at::Tensor Snapshot::copy_of(const TensorCopy& tensor) const {
  const c10::Storage& storage = storages_[*tensor.storage].to;
  at::Tensor copy = at::empty({0}, at::TensorOptions(tensor.from.scalar_type()));
  copy.set_(storage, tensor.offset, tensor.sizes, tensor.strides);
  if (tensor.from.is_conj()) copy._set_conj(true);
  if (tensor.from.is_neg()) copy._set_neg(true);
  return copy.set_requires_grad(tensor.from.requires_grad());
}

void Snapshot::settle_objects() {
  if (!builder_) return;
  std::vector<c10::Storage> storages;
  for (const auto& index : object_storages_) storages.push_back(index ? storages_[*index].to : c10::Storage());
  ObjectGraph graph = std::move(builder_->graph());
  ObjectList all;
  for (const Object* object : objects_) all.items.push_back(const_cast<Object*>(object));
  graph.root = graph.make(std::move(all));
  const auto context = make_opaque_context(path_, std::move(graph), std::move(storages));
  for (const auto& [impl, object] : builder_->tensors()) {  // a tensor outside of the Opaques that is in them too
    const auto known = tensor_numbers_.find(impl);
    if (known == tensor_numbers_.end() || !tensors_[known->second].storage) continue;
    context->tensors.add(object, tensors_[known->second].to);
  }
  for (TensorCopy& tensor : tensors_) {
    if (tensor.object != nullptr) tensor.to = object_to_value(context, *tensor.object).as<at::Tensor>();
  }
  for (const auto& [value, object] : opaque_places_) *value = OpaqueAccess::make(context, object);
}

namespace {

class ByteCounter {
 public:
  void add(const Value& value) {
    if (const auto* dict = value.get_if<Dict>()) {
      add(*dict);
    } else if (const auto* list = value.get_if<List>()) {
      for (const Value& item : *list) add(item);
    } else if (const auto* tuple = value.get_if<Tuple>()) {
      for (const Value& item : *tuple) add(item);
    } else if (const auto* tensor = value.get_if<at::Tensor>()) {
      if (tensor->defined() && is_view_of_storage(*tensor)) add(tensor->storage());
    } else if (const auto* held = value.get_if<TypedStorage>()) {
      if (held->storage) add(held->storage);
    }
  }
  void add(const Dict& dict) {
    for (const auto& [key, value] : dict) add(value);
  }
  std::size_t n_bytes() const { return n_bytes_; }

 private:
  void add(const c10::Storage& storage) {
    if (!storage.device().is_cpu() || !seen_.insert(storage.unsafeGetStorageImpl()).second) return;
    n_bytes_ += align_staging(storage.nbytes());
  }

  std::unordered_set<const c10::StorageImpl*> seen_;
  std::size_t n_bytes_ = 0;
};

}  // namespace

std::size_t staging_bytes(const Checkpoint& checkpoint) {
  ByteCounter counter;
  counter.add(checkpoint);
  return counter.n_bytes();
}

}  // namespace ckptio::detail
