// SPDX-License-Identifier: Apache-2.0
// FileTable: a dict of a file, of plain tensors under names, as State takes it without Values.
#pragma once

#include <map>
#include <optional>
#include <string>
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
  // Whether it can be one: keys that are strings, and values that are dense tensors, not compressed.
  static bool is_table(const Object& object, const std::vector<StorageRecord>& records);

  // Requires: is_table(object). What is taken goes to `taken`; both outlive the table.
  FileTable(const Object& object, std::vector<TakenTensor>& taken);

  std::size_t size() const override { return dict_.items.size(); }
  std::optional<std::size_t> find(const std::string& name, std::size_t expected) const override;
  bool take(std::size_t index, const at::Tensor& target) override;

 private:
  const std::string& name(std::size_t index) const { return dict_.items[index].first->get<ObjectString>()->utf8; }

  const ObjectDict& dict_;
  std::vector<TakenTensor>& taken_;
  mutable HashTable<std::uint32_t> by_name_;  // made when it is needed: mostly both sides are in one order
};

// Those among the items of a file's outermost dict that have one of the names, by their names. Without names, that dict
// itself, by "".
using FileTables = std::map<std::string, const Object*>;
FileTables find_tables(const Object& root, const std::vector<std::string>& names,
                       const std::vector<StorageRecord>& records);

// Which items of that dict they are.
std::vector<bool> items_of(const FileTables& tables, const Object& root);

}  // namespace ckptio::detail
