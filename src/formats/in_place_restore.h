// SPDX-License-Identifier: Apache-2.0
// InPlaceRestore: tensors of a file that go straight into the memory of live objects, without a copy between.
//
// The file's storages are mapped, not read: tensors over them have names, shapes and dtypes to be checked. Then every
// byte is checked against its CRC-32 with a few MB of memory, and only then are contents read a second time, each into
// the tensor that it is for. What cannot be mapped (deflated, of another byte order, a storage that has no mapping) is
// read and checked at the start.
// Threads: one at a time. Errors: CorruptError, IoError. Requires: the archive outlives it.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <vector>

#include "ckptio/storage/storage_backend.h"
#include "codec/archive.h"
#include "formats/opaque_context.h"
#include "state/tensor_copier.h"

namespace ckptio::detail {

class InPlaceRestore final : public TensorCopier {
 public:
  // `file`: what the archive was opened on.
  InPlaceRestore(const Archive& archive, const RandomAccessFile& file);

  // One for each of the archive's.
  const std::vector<c10::Storage>& storages() const { return storages_; }
  // Gives memory of their own to the storages that are left in `context`, which has been released of what it does not
  // need. True if there were any: Values made of it before must be made again.
  bool own_storages_of(OpaqueContext& context);

  void check() override;
  void copy(const std::vector<LoadPlan::TensorCopy>& copies) override;
  Dict own(const Dict& state) override;

 private:
  c10::Storage own(const c10::Storage& storage);
  const StorageRecord* record_of(const at::Tensor& tensor) const;
  bool read_into(const at::Tensor& target, const at::Tensor& source) const;
  void copy_pieces(const at::Tensor& target, const at::Tensor& source) const;

  const Archive& archive_;
  std::vector<c10::Storage> storages_;
  std::unordered_map<const c10::StorageImpl*, std::size_t> in_file_;  // those mapped: their index
  std::unordered_map<const c10::StorageImpl*, c10::Storage> owned_;   // and what took the place of some
};

}  // namespace ckptio::detail
