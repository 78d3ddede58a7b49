// SPDX-License-Identifier: Apache-2.0
#include "decorators/snapshot.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <unordered_set>
#include <utility>

#include "formats/object_to_value.h"
#include "formats/opaque_context.h"
#include "formats/tensor_record.h"
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

const c10::TensorImpl* impl_of(const Value& tensor) { return tensor.as<at::Tensor>().unsafeGetTensorImpl(); }

}  // namespace

// What all storages in a buffer have together: as long as one of them lives, the buffer is not used again.
class Snapshot::Lease {
 public:
  explicit Lease(std::shared_ptr<StagingBuffer> buffer) : held_(new Held{std::move(buffer)}) {}

  c10::Storage storage(std::size_t offset, std::size_t n_bytes) const {
    ++held_->n_users;
    c10::DataPtr data(n_bytes == 0 ? nullptr : held_->buffer->data() + offset, held_.get(), end, c10::kCPU);
    return {c10::Storage::use_byte_size_t(), n_bytes, std::move(data), nullptr, false};
  }

 private:
  struct Held {
    std::shared_ptr<StagingBuffer> buffer;
    std::atomic<std::size_t> n_users{1};
  };
  static void end(void* context) {
    auto* held = static_cast<Held*>(context);
    if (--held->n_users == 0) delete held;
  }
  struct End {
    void operator()(Held* held) const { end(held); }
  };
  std::unique_ptr<Held, End> held_;
};

Snapshot::Snapshot(Checkpoint checkpoint, std::string path)
    : path_(std::move(path)), checkpoint_(std::move(checkpoint)), device_copies_(path_) {}

Snapshot::~Snapshot() = default;

void Snapshot::survey(StagingMemory& pinned) {
  const at::NoGradGuard no_grad;
  add(checkpoint_);
  add_objects();
  begin_device_copies(pinned);
}

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
  const c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  const auto number = static_cast<std::uint32_t>(tensors_.size());
  const std::uint32_t known = tensor_numbers_.get_or_add(
      hash_of_address(impl), number, [&](std::uint32_t other) { return impl_of(*tensors_[other].place) == impl; });
  if (known != number) return more_places_.emplace_back(&value, known), void();
  try {
    tensors_.push_back(take(value, tensor));
  } catch (const c10::Error& error) {
    throw TypeError("cannot save '" + path_ + "': " + value.path() +
                    ": a tensor that cannot be copied: " + error.what_without_backtrace());
  }
}

Snapshot::TensorCopy Snapshot::take(Value& value, const at::Tensor& tensor) {
  TensorCopy copy;
  copy.place = &value;
  const c10::VariableVersion& version = tensor.unsafeGetTensorImpl()->version_counter();
  copy.counts_changes = version.enabled() && is_copied_later(tensor.device());
  if (copy.counts_changes) copy.version = version.current_version();
  if (!is_view_of_storage(tensor)) {
    copy.other = static_cast<std::uint32_t>(others_.size());
    others_.push_back(take_other(value, tensor));
    return copy;
  }
  if (const std::string why = why_no_memory(tensor); !why.empty()) {
    throw ValueError("cannot save '" + path_ + "': " + value.path() + ": " + why);
  }
  copy.storage = add_storage(tensor.storage());
  copy.dtype = tensor.scalar_type();
  copy.conj = tensor.is_conj();
  copy.neg = tensor.is_neg();
  copy.requires_grad = tensor.requires_grad();
  copy.offset = tensor.storage_offset();
  copy.n_dims = static_cast<std::uint32_t>(tensor.dim());
  copy.geometry = geometry_.size();
  for (const c10::IntArrayRef numbers : {tensor.sizes(), tensor.strides()}) {
    geometry_.insert(geometry_.end(), numbers.begin(), numbers.end());
  }
  return copy;
}

Snapshot::OtherCopy Snapshot::take_other(const Value& value, const at::Tensor& tensor) {
  if (tensor.is_meta()) return {tensor.detach().set_requires_grad(tensor.requires_grad())};
  try {
    return {{}, add_object(value)};
  } catch (const Error&) {  // it has no form in our files, but maybe in the wrapped plugin's
    return {tensor.detach().clone().set_requires_grad(tensor.requires_grad())};
  }
}

std::uint32_t Snapshot::add_storage(const c10::Storage& storage) {
  const c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
  const auto number = static_cast<std::uint32_t>(storages_.size());
  const std::uint32_t known = storage_numbers_.get_or_add(hash_of_address(impl), number, [&](std::uint32_t other) {
    return storages_[other].from.unsafeGetStorageImpl() == impl;
  });
  if (known != number) return known;
  verify_storage(storage);
  try {
    require_memory(storage);
  } catch (const ValueError& error) {
    throw ValueError("cannot save '" + path_ + "': " + error.what());
  }
  StorageCopy copy{storage, {}, storage.nbytes()};
  if (is_copied_later(storage.device())) {
    copy.is_pinned = !storage.device().is_cpu();
    std::size_t& end = copy.is_pinned ? pinned_end_ : end_;
    copy.offset = end;
    end = align_staging(end + copy.n_bytes);
  } else {
    copy.to = bring_to_cpu(storage);
  }
  n_bytes_ += static_cast<std::int64_t>(copy.n_bytes);
  storages_.push_back(std::move(copy));
  return number;
}

bool Snapshot::is_copied_later(const c10::Device& device) { return device.is_cpu() || device_copies_.can_copy(device); }

// Here and now, in the order of the device's work that this thread gave it.
c10::Storage Snapshot::bring_to_cpu(const c10::Storage& storage) const {
  try {
    return bytes_of(storage).cpu().storage();
  } catch (const std::exception& error) {
    throw_device_failure(path_, storage.device(), error);
  }
}

void Snapshot::begin_device_copies(StagingMemory& pinned) {
  if (pinned_end_ == 0) return;
  try {
    pinned_buffer_ = pinned.acquire(pinned_end_);
  } catch (const IoError&) {  // other memory may be had
    for (StorageCopy& storage : storages_) {
      if (storage.is_pinned) storage.to = bring_to_cpu(storage.from);
    }
    return;
  }
  std::vector<DeviceCopy> copies;
  for (const StorageCopy& storage : storages_) {
    if (storage.is_pinned) copies.push_back({&storage.from, pinned_buffer_->data() + storage.offset});
  }
  device_copies_.begin(copies);
}

const Object* Snapshot::add_object(const Value& value) {
  if (!builder_) builder_ = std::make_unique<ObjectBuilder>();
  return objects_.emplace_back(builder_->add(value));
}

void Snapshot::add_objects() {
  if (!builder_) return;
  for (const c10::Storage& storage : builder_->storages()) {
    object_storages_.push_back(storage ? add_storage(storage) : kNone);
  }
  for (const auto& [impl, object] : builder_->tensors()) {  // a tensor outside of the Opaques that is in them too
    const auto known = tensor_numbers_.find(
        hash_of_address(impl), [&](std::uint32_t other) { return impl_of(*tensors_[other].place) == impl; });
    if (known && tensors_[*known].storage != kNone) object_tensors_.emplace_back(object, *known);
  }
}

void Snapshot::stage(StagingMemory& memory, WorkerPool& pool) {
  buffer_ = memory.acquire(end_);
  std::vector<StagingCopy> copies;
  copies.reserve(storages_.size());
  for (const StorageCopy& storage : storages_) {
    if (storage.to || storage.is_pinned) continue;
    if (storage.from.nbytes() != storage.n_bytes) {
      throw ValueError("cannot save '" + path_ + "': a tensor was resized before the save was staged");
    }
    copies.push_back({storage.from.data(), storage.n_bytes, storage.offset});
  }
  copy_to(*buffer_, copies, pool);
  device_copies_.wait();
  require_unchanged();
}

void Snapshot::require_unchanged() const {
  for (const TensorCopy& tensor : tensors_) {
    if (!tensor.counts_changes) continue;
    if (impl_of(*tensor.place)->version_counter().current_version() == tensor.version) continue;
    throw ValueError("cannot save '" + path_ + "': " + tensor.place->path() +
                     " was changed in place before the save was staged: wait(SaveStage::Staged) comes first");
  }
}

void Snapshot::settle() {
  const at::NoGradGuard no_grad;
  const Lease lease(std::move(buffer_)), pinned_lease(std::move(pinned_buffer_));  // the storages have them from now on
  for (StorageCopy& storage : storages_) {
    if (storage.to) continue;
    storage.to = (storage.is_pinned ? pinned_lease : lease).storage(storage.offset, storage.n_bytes);
  }
  for (const TensorCopy& tensor : tensors_) {
    if (tensor.storage != kNone) *tensor.place = copy_of(tensor);
  }
  settle_objects();
  for (const TensorCopy& tensor : tensors_) {
    if (tensor.storage == kNone) *tensor.place = others_[tensor.other].to;
  }
  for (const auto& [value, number] : more_places_) *value = *tensors_[number].place;
  for (const auto& [value, number] : storage_places_) {
    *value = TypedStorage{storages_[number].to, value->as<TypedStorage>().dtype};
  }
  tensors_.clear();
  storages_.clear();
  others_.clear();
  builder_.reset();
}

at::Tensor Snapshot::copy_of(const TensorCopy& tensor) const {
  const c10::IntArrayRef sizes(geometry_.data() + tensor.geometry, tensor.n_dims);
  const c10::IntArrayRef strides(sizes.end(), tensor.n_dims);
  at::Tensor copy = make_view(storages_[tensor.storage].to, tensor.dtype, tensor.offset, sizes, strides);
  if (tensor.conj) copy._set_conj(true);
  if (tensor.neg) copy._set_neg(true);
  if (tensor.requires_grad) copy.set_requires_grad(true);
  return copy;
}

void Snapshot::settle_objects() {
  if (!builder_) return;
  std::vector<c10::Storage> storages;
  for (const std::uint32_t number : object_storages_) {
    storages.push_back(number == kNone ? c10::Storage() : storages_[number].to);
  }
  ObjectGraph graph = std::move(builder_->graph());
  ObjectList all;
  for (const Object* object : objects_) all.items.push_back(const_cast<Object*>(object));
  graph.root = graph.make(std::move(all));
  const auto context = make_opaque_context(path_, std::move(graph), std::move(storages));
  for (const auto& [object, number] : object_tensors_) {
    context->tensors.add(object, tensors_[number].place->as<at::Tensor>());
  }
  for (OtherCopy& other : others_) {
    if (other.object != nullptr) other.to = object_to_value(context, *other.object).as<at::Tensor>();
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
  const StagingBytes& n_bytes() const { return n_bytes_; }

 private:
  void add(const c10::Storage& storage) {
    const c10::Device device = storage.device();
    if (!device.is_cpu() && !devices_.can_copy(device)) return;
    if (!seen_.insert(storage.unsafeGetStorageImpl()).second) return;
    (device.is_cpu() ? n_bytes_.mapped : n_bytes_.pinned) += align_staging(storage.nbytes());
  }

  std::unordered_set<const c10::StorageImpl*> seen_;
  DeviceCopies devices_{""};
  StagingBytes n_bytes_;
};

}  // namespace

StagingBytes staging_bytes(const Checkpoint& checkpoint) {
  ByteCounter counter;
  counter.add(checkpoint);
  return counter.n_bytes();
}

}  // namespace ckptio::detail
