// SPDX-License-Identifier: Apache-2.0
#include "formats/file_table.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "formats/torch_types.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

// Requires: without holes. As why_no_memory(), without looking at each dimension of thousands of tensors.
bool is_in_memory(const at::Tensor& target) {
  const c10::Storage& storage = target.storage();
  const std::uint64_t end =
      static_cast<std::uint64_t>(target.storage_offset() + target.numel()) * target.element_size();
  return target.numel() == 0 || (storage.nbytes() >= end && storage.data() != nullptr);
}

// Of this shape, elements in this order and without holes, on the CPU.
bool is_laid_out_as(const at::Tensor& target, c10::ScalarType dtype, c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  if (!target.is_cpu() || !has_plain_storage(target) || target.is_conj() || target.is_neg()) return false;
  if (target.scalar_type() != dtype || target.sizes() != sizes) return false;
  if (!target.is_non_overlapping_and_dense() || !is_in_memory(target)) return false;
  const c10::IntArrayRef of_target = target.strides();
  for (std::size_t dim = 0; dim < sizes.size(); ++dim) {
    if (sizes[dim] > 1 && of_target[dim] != strides[dim]) return false;
  }
  return true;
}

StorageRange range_of(const at::Tensor& target, std::size_t storage, std::int64_t offset) {
  const std::size_t n_item = target.element_size();
  const std::uint64_t n_bytes = static_cast<std::uint64_t>(target.numel()) * n_item;
  if (n_bytes == 0) return {storage, 0, 0, nullptr};  // it may stand behind the end
  return {storage, static_cast<std::uint64_t>(offset) * n_item, n_bytes, target.mutable_data_ptr()};
}

// What such a dict holds; nullopt where it can be no table: keys that are strings, and at least one.
std::optional<FileEntries> entries_of(const Object& object, const std::vector<StorageRecord>& records) {
  const auto* dict = object.get<ObjectDict>();
  if (dict == nullptr || dict->items.empty()) return std::nullopt;
  FileEntries entries;
  entries.reserve(dict->items.size());
  for (const auto& [key, item] : dict->items) {
    const auto* name = key->get<ObjectString>();
    const auto* tensor = item->get<ObjectTensor>();
    if (name == nullptr || tensor == nullptr || !FileTable::can_hold(*tensor, records)) return std::nullopt;
    entries.push_back({name->utf8, tensor});
  }
  return entries;
}

}  // namespace

std::optional<StorageRange> range_for(const at::Tensor& target, const ObjectTensor& tensor) {
  const c10::IntArrayRef sizes(tensor.sizes.data(), tensor.sizes.size());
  const c10::IntArrayRef strides(tensor.strides.data(), tensor.strides.size());
  if (!is_laid_out_as(target, to_scalar_type(tensor.dtype), sizes, strides)) return std::nullopt;
  return range_of(target, tensor.storage, tensor.offset);
}

std::optional<StorageRange> range_for(const at::Tensor& target, const at::Tensor& source, std::size_t index) {
  if (source.is_conj() || source.is_neg()) return std::nullopt;
  if (!is_laid_out_as(target, source.scalar_type(), source.sizes(), source.strides())) return std::nullopt;
  return range_of(target, index, source.storage_offset());
}

bool FileTable::can_hold(const ObjectTensor& tensor, const std::vector<StorageRecord>& records) {
  if (tensor.form != ObjectTensor::Form::dense || tensor.conj || tensor.neg) return false;
  const StorageRecord& record = records.at(tensor.storage);
  return record.is_stored && !record.swap_bytes;
}

FileTable::FileTable(std::vector<Entry> entries, std::vector<TakenTensor>& taken)
    : entries_(std::move(entries)), taken_(taken) {}

std::optional<std::size_t> FileTable::find(const std::string& wanted, std::size_t expected) const {
  if (expected < size() && entries_[expected].name == wanted) return expected;
  if (by_name_.size() == 0) {
    by_name_.reserve(size());
    for (std::size_t i = 0; i < size(); ++i) {
      by_name_.find_or_add(hash_of(entries_[i].name), static_cast<std::uint32_t>(i),
                           [](std::uint32_t) { return false; });
    }
  }
  const std::uint32_t* found =
      by_name_.find(hash_of(wanted), [&](std::uint32_t i) { return entries_[i].name == wanted; });
  return found == nullptr ? std::nullopt : std::optional<std::size_t>(*found);
}

bool FileTable::take(std::size_t index, const at::Tensor& target) {
  if (target.is_inference() && !c10::InferenceMode::is_enabled()) return false;
  const ObjectTensor& tensor = *entries_[index].tensor;
  const auto range = range_for(target, tensor);
  if (range) taken_.push_back({&tensor, *range});
  return range.has_value();
}

bool can_be_table(const std::string& key, const std::vector<std::string>& names) {
  return !key.empty() && key.find('[') == key.npos && std::find(names.begin(), names.end(), key) != names.end();
}

FileTables find_tables(const Object& root, const std::vector<std::string>& names,
                       const std::vector<StorageRecord>& records) {
  FileTables tables;
  const auto add = [&](const std::string& name, const Object& object) {
    if (auto entries = entries_of(object, records)) tables[name] = *std::move(entries);
  };
  if (names.empty()) add("", root);
  const auto* dict = root.get<ObjectDict>();
  if (names.empty() || dict == nullptr) return tables;
  for (const auto& [key, item] : dict->items) {
    const auto* name = key->get<ObjectString>();
    if (name != nullptr && can_be_table(name->utf8, names)) add(name->utf8, *item);
  }
  return tables;
}

std::vector<bool> items_of(const FileTables& tables, const Object& root) {
  const auto* dict = root.get<ObjectDict>();
  std::vector<bool> items(dict == nullptr ? 0 : dict->items.size(), tables.contains(""));
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto* name = dict->items[i].first->get<ObjectString>();
    if (name != nullptr && tables.contains(name->utf8)) items[i] = true;
  }
  return items;
}

}  // namespace ckptio::detail
