// SPDX-License-Identifier: Apache-2.0
// Snapshot: a copy of a checkpoint that nothing done to the original can change. Made in steps, since some are long and
// the last one nobody waits for.
//
// Storages are copied whole, each once, so tensors share in the copy what they share in the original. Not copied:
// tensors without data (meta), and what cannot change (Opaques without tensors).
// Threads: one at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/staging_memory.h"
#include "ckptio/value.h"
#include "decorators/device_copies.h"
#include "hash/hash_table.h"

namespace ckptio::detail {

class ObjectBuilder;
struct Object;

class Snapshot {
 public:
  // `path` is for messages.
  Snapshot(Checkpoint checkpoint, std::string path);
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot();

  // Notes what is to be copied, and has the devices begin to copy what is theirs to memory of `pinned`; what a device
  // can't copy beside its other work, or where that memory can't be had, is brought to the CPU at once. TypeError for a
  // tensor that cannot be copied, IoError where a device fails.
  void survey(StagingMemory& pinned);
  // Of all storages. Requires: surveyed.
  std::int64_t n_bytes() const noexcept { return n_bytes_; }

  // Copies the storages, and waits for the devices. Requires: surveyed. From then on until it returns the original's
  // tensors must not change: ValueError where one did, as far as LibTorch counts changes. IoError where a device
  // failed.
  void stage(StagingMemory& memory, WorkerPool& pool);
  // Puts the copies into the checkpoint and lets go of the original.
  void settle();
  // Requires: settled.
  const Checkpoint& checkpoint() const noexcept { return checkpoint_; }

 private:
  class Lease;
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  struct StorageCopy {
    c10::Storage from;
    c10::Storage to;
    std::size_t n_bytes = 0;
    bool is_pinned = false;
    std::size_t offset = 0;  // in the buffer, or the pinned one
  };
  // What is kept of a tensor, of which there may be thousands: nothing is allocated for each.
  struct TensorCopy {
    Value* place = nullptr;       // the first of those it stands at, until the end
    std::uint32_t version = 0;    // how often it had been changed; of those that stage() copies
    bool counts_changes = false;  // there is a version
    bool conj = false, neg = false, requires_grad = false;
    c10::ScalarType dtype = c10::ScalarType::Undefined;
    // Of those that are a view of a storage: which, and how. The others are in others_.
    std::uint32_t storage = kNone;
    std::uint32_t other = kNone;
    std::uint32_t n_dims = 0;
    std::size_t geometry = 0;  // where its sizes begin in geometry_, and behind them its strides
    std::int64_t offset = 0;
  };
  // Tensors that are more than a view of a storage: the copy, or the object that it will be made of.
  struct OtherCopy {
    at::Tensor to;
    const Object* object = nullptr;
  };

  void add(Dict& dict);
  void add(Value& value);
  void add_tensor(Value& value);
  TensorCopy take(Value& value, const at::Tensor& tensor);
  OtherCopy take_other(const Value& value, const at::Tensor& tensor);
  std::uint32_t add_storage(const c10::Storage& storage);
  bool is_copied_later(const c10::Device& device);
  c10::Storage bring_to_cpu(const c10::Storage& storage) const;
  void begin_device_copies(StagingMemory& pinned);
  const Object* add_object(const Value& value);
  void add_objects();
  void require_unchanged() const;
  at::Tensor copy_of(const TensorCopy& tensor) const;
  void settle_objects();

  const std::string path_;
  Checkpoint checkpoint_;
  std::vector<StorageCopy> storages_;
  HashTable<std::uint32_t> storage_numbers_;  // by StorageImpl
  std::vector<TensorCopy> tensors_;
  HashTable<std::uint32_t> tensor_numbers_;  // by TensorImpl
  std::vector<std::int64_t> geometry_;
  std::vector<OtherCopy> others_;
  std::vector<std::pair<Value*, std::uint32_t>> more_places_;     // of tensors, behind their first
  std::vector<std::pair<Value*, std::uint32_t>> storage_places_;  // of bare storages
  // Opaques, and tensors that are more than a view of a storage, go through the form that files give them.
  std::unique_ptr<ObjectBuilder> builder_;
  std::vector<const Object*> objects_;
  std::vector<std::pair<Value*, const Object*>> opaque_places_;
  std::vector<std::uint32_t> object_storages_;                           // for each of the builder's, or kNone
  std::vector<std::pair<const Object*, std::uint32_t>> object_tensors_;  // of tensors that are in Opaques too
  std::size_t end_ = 0, pinned_end_ = 0;                                 // of the buffers that it takes
  std::int64_t n_bytes_ = 0;
  std::shared_ptr<StagingBuffer> buffer_, pinned_buffer_;
  DeviceCopies device_copies_;  // ends before what they copy and what they copy to
};

// How much memory a snapshot of `checkpoint` takes, about.
struct StagingBytes {
  std::size_t mapped = 0, pinned = 0;
};
StagingBytes staging_bytes(const Checkpoint& checkpoint);

}  // namespace ckptio::detail
