// SPDX-License-Identifier: Apache-2.0
// InPlaceRestore: tensors of a file that go straight into the memory of live objects, without a copy between.
//
// The file's storages are mapped, not read: tensors over them have names, shapes and dtypes to be checked. Then every
// byte is checked against its CRC-32 with a few MB of memory, and only then are contents read a second time, each into
// the tensor that it is for. Not transactional, what is read whole into one tensor is checked as it is read there, and
// only the rest before. What cannot be mapped (deflated, of another byte order, a storage that has no mapping) is read
// and checked at the start. A dict of nothing but tensors, which State may take as it stands in the file
// (file_table.h), needs none of that but the checks. Threads: one at a time. Errors: CorruptError, IoError. Requires:
// what `reader` reads from outlives it.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/file_table.h"
#include "formats/opaque_context.h"
#include "formats/storage_reader.h"
#include "hash/hash_table.h"
#include "state/tensor_copier.h"

namespace ckptio::detail {

class InPlaceRestore final : public TensorCopier {
 public:
  // `infos`: what the graph says of the archive's storages; it outlives this. `mapped`: what the file's map() gave.
  // `options`: map_location is for what own() gives.
  InPlaceRestore(const StorageReader& reader, const std::vector<StorageInfo>& infos,
                 const std::shared_ptr<void>& mapped, const LoadOptions& options);
  ~InPlaceRestore() override;

  // The entry `name` of the checkpoint. Requires: as FileTable().
  void add_table(const std::string& name, FileEntries entries);

  // One for each of the archive's; null where they are not `wanted`.
  const std::vector<c10::Storage>& make_storages(const std::vector<bool>& wanted);
  const std::vector<c10::Storage>& make_storages();
  // That of the archive with this index.
  const c10::Storage& storage(std::size_t index);
  // Gives memory of their own to the storages that are left in `context`, which has been released of what it does not
  // need. True if there were any: Values made of it before must be made again.
  bool own_storages_of(OpaqueContext& context);

  // The same with all storages where `value` holds tensors that are not plain ones over them (sparse, quantized, ...).
  bool own_unless_plain(OpaqueContext& context, const Value& value);

  // What `value` does not hold is not checked. Requires: all that will be copied or owned is in it.
  void restrict_to(const Value& value);

  TensorTable* table(const std::string& name) override;
  void check(const std::vector<LoadPlan::TensorCopy>& copies) override;
  void copy() override;
  Dict own(const Dict& state) override;
  // Of what is left when the state was restored, if there is one.
  Value own_rest(const Value& value);

 private:
  // It is kept: no other may be found at its address.
  struct Replaced {
    c10::Storage storage, by;
  };

  // A copy of the plan. Its source is a tensor over a storage of the file or, if that is undefined, what a table gave.
  struct Copy {
    const LoadPlan::TensorCopy* planned = nullptr;
    const TakenTensor* taken = nullptr;
  };
  struct Extent;  // the bytes between a target's first and last element
  struct Direct;  // a copy that is read where it belongs

  static Extent extent_of(const Copy& copy);
  static std::vector<Extent> extents_of(const std::vector<Copy>& copies);
  static std::vector<Copy> last_of_each(const std::vector<Copy>& copies);
  std::vector<Copy> sources_of(const std::vector<LoadPlan::TensorCopy>& copies) const;
  at::Tensor make_source(const Copy& copy);
  // All that is read later, or what restrict_to() says.
  std::vector<std::size_t> storages_to_check() const;
  Value own(const Value& value);
  c10::Storage own(const c10::Storage& storage);
  // The index of a storage of the file.
  std::optional<std::size_t> find(const c10::Storage& storage) const;
  // The same of a tensor's, if it is mapped.
  std::optional<std::size_t> storage_of(const at::Tensor& tensor) const;
  // Where the tensor's elements stand, if they can be read into `target` as they are.
  std::optional<StorageRange> range_for(const Copy& copy) const;
  std::vector<StorageRange> take_ranges();
  bool is_whole(const StorageRange& range) const;
  void use_own(OpaqueContext& context);
  void copy_pieces(const at::Tensor& target, const at::Tensor& source) const;

  StorageReader reader_;
  const bool transactional_;
  const bool has_state_;
  const bool mmap_;  // what own() gives is mapped where it can be
  // Then it is checked when it is used; null: as it is given.
  const std::shared_ptr<const UncheckedFile> unchecked_;
  MapLocation map_location_;
  const std::vector<StorageInfo>& infos_;
  const c10::intrusive_ptr<Mapping> mapping_;
  std::map<std::string, FileTable> tables_;
  std::vector<TakenTensor> taken_;                         // by the tables, in the order of their copies
  std::optional<std::vector<std::size_t>> restricted_to_;  // what is checked; nullopt: all
  std::vector<Direct> direct_;
  std::vector<Copy> others_;
  std::vector<c10::Storage> storages_;              // those that were asked for
  std::vector<bool> is_mapped_, is_read_;           // of these
  std::vector<const c10::StorageImpl*> addresses_;  // of the storages as they were made
  HashTable<std::uint32_t> by_storage_;             // indices of addresses_
  std::unordered_map<std::size_t, Replaced> replaced_;
};

}  // namespace ckptio::detail
