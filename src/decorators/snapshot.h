// SPDX-License-Identifier: Apache-2.0
// Snapshot: a copy of a checkpoint that nothing done to the original can change. Made in three steps, since the middle
// one is long and the last one nobody waits for.
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
#include <unordered_map>
#include <vector>

#include "async/staging_memory.h"
#include "ckptio/value.h"

namespace ckptio::detail {

class ObjectBuilder;
struct Object;

class Snapshot {
 public:
  // Copies containers and plain values, and brings what is on other devices to the CPU. `path` is for messages.
  // TypeError for a tensor that cannot be copied.
  Snapshot(const Checkpoint& checkpoint, std::string path);
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot();

  // Of all storages.
  std::int64_t n_bytes() const noexcept { return n_bytes_; }

  // Copies the storages. Until it returns the original's tensors must not change: ValueError where one did, as far as
  // LibTorch counts changes.
  void stage(StagingMemory& memory, WorkerPool& pool);
  // Puts the copies into the checkpoint and lets go of the original.
  void settle();
  // Requires: settled.
  const Checkpoint& checkpoint() const noexcept { return checkpoint_; }

 private:
  struct StorageCopy {
    c10::Storage from;
    c10::Storage to;
    std::size_t offset = 0;  // in the buffer
  };
  struct TensorCopy {
    at::Tensor from;
    at::Tensor to;
    const Value* place = nullptr;          // the first of those it stands at
    std::optional<std::uint32_t> version;  // how often it had been changed; of those that stage() copies
    // Of those that are a view of a storage: which, and how. Others have `to`, or an object.
    std::optional<std::size_t> storage;
    std::vector<std::int64_t> sizes, strides;
    std::int64_t offset = 0;
    const Object* object = nullptr;
  };

  void add(Dict& dict);
  void add(Value& value);
  void add_tensor(Value& value);
  TensorCopy take(const Value& value, const at::Tensor& tensor);
  std::size_t add_storage(const c10::Storage& storage);
  const Object* add_object(const Value& value);
  void add_objects();
  void require_unchanged() const;
  at::Tensor copy_of(const TensorCopy& tensor) const;
  void settle_objects();

  const std::string path_;
  Checkpoint checkpoint_;
  std::vector<StorageCopy> storages_;
  std::unordered_map<const c10::StorageImpl*, std::size_t> storage_numbers_;
  std::vector<TensorCopy> tensors_;
  std::unordered_map<const c10::TensorImpl*, std::size_t> tensor_numbers_;
  std::vector<std::pair<Value*, std::size_t>> tensor_places_;
  std::vector<std::pair<Value*, std::size_t>> storage_places_;  // of bare storages
  // Opaques, and tensors that are more than a view of a storage, go through the form that files give them.
  std::unique_ptr<ObjectBuilder> builder_;
  std::vector<const Object*> objects_;
  std::vector<std::pair<Value*, const Object*>> opaque_places_;
  std::vector<std::optional<std::size_t>> object_storages_;  // for each of the builder's
  std::size_t end_ = 0;                                      // of the buffer that it takes
  std::int64_t n_bytes_ = 0;
  std::shared_ptr<StagingBuffer> buffer_;
};

// How much memory a snapshot of `checkpoint` takes, about.
std::size_t staging_bytes(const Checkpoint& checkpoint);

}  // namespace ckptio::detail
