// SPDX-License-Identifier: Apache-2.0
// FileTable: a dict of a file, of plain tensors under names, as State takes it without Values.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/archive.h"
#include "formats/storage_reader.h"
#include "hash/hash_table.h"
#include "state/tensor_copier.h"

namespace ckptio::detail {

// A tensor that goes from the file where it belongs.
struct TakenTensor {
  const ObjectTensor* tensor = nullptr;
  StorageRange range;
};

// Where the elements of `tensor` stand and go; nullopt where `target` does not have them in the same way.
std::optional<StorageRange> range_for(const at::Tensor& target, const ObjectTensor& tensor);
// The same of a tensor that stands for one of the file, over storage `index` of it.
std::optional<StorageRange> range_for(const at::Tensor& target, const at::Tensor& source, std::size_t index);

class FileTable final : public TensorTable {
 public:
  // Where the file's graph has them.
  struct Entry {
    std::string_view name;
    const ObjectTensor* tensor;
  };

  // Whether a tensor can stand in one: a dense one, not compressed.
  static bool can_hold(const ObjectTensor& tensor, const std::vector<StorageRecord>& records);

  // Requires: can_hold() each of them. What is taken goes to `taken`, which outlives the table.
  FileTable(std::vector<Entry> entries, std::vector<TakenTensor>& taken);

  std::size_t size() const override { return entries_.size(); }
  std::optional<std::size_t> find(const std::string& name, std::size_t expected) const override;
  bool take(std::size_t index, const at::Tensor& target) override;

 private:
  std::vector<Entry> entries_;
  std::vector<TakenTensor>& taken_;
  mutable HashTable<std::uint32_t> by_name_;  // made when it is needed: mostly both sides are in one order
};

using FileEntries = std::vector<FileTable::Entry>;

// Whether an entry of a checkpoint, which `names` are asked of, can be a table: names with brackets are those of items
// in lists, too, and "" is that of the whole.
bool can_be_table(const std::string& key, const std::vector<std::string>& names);

// Those among the items of a file's outermost dict that have one of the names, by their names. Without names, that dict
// itself, by "".
using FileTables = std::map<std::string, FileEntries>;
FileTables find_tables(const Object& root, const std::vector<std::string>& names,
                       const std::vector<StorageRecord>& records);

// Which items of that dict they are.
std::vector<bool> items_of(const FileTables& tables, const Object& root);

}  // namespace ckptio::detail
