// SPDX-License-Identifier: Apache-2.0
#include "formats/file_table.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "formats/torch_types.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

// Of this shape, elements in this order and without holes, on the CPU.
bool is_laid_out_as(const at::Tensor& target, c10::ScalarType dtype, c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  if (!target.is_cpu() || !has_plain_storage(target) || target.is_conj() || target.is_neg()) return false;
  if (target.scalar_type() != dtype || target.sizes() != sizes) return false;
  if (!target.is_non_overlapping_and_dense()) return false;
  const c10::IntArrayRef of_target = target.strides();
  for (std::size_t dim = 0; dim < sizes.size(); ++dim) {
    if (sizes[dim] > 1 && of_target[dim] != strides[dim]) return false;
  }
  return true;
}

StorageRange range_of(const at::Tensor& target, std::size_t storage, std::int64_t offset) {
  const std::size_t n_item = target.element_size();
  const std::uint64_t n_bytes = static_cast<std::uint64_t>(target.numel()) * n_item;
  return {storage, static_cast<std::uint64_t>(offset) * n_item, n_bytes,
          n_bytes > 0 ? target.mutable_data_ptr() : nullptr};
}

bool is_dense(const Object& object, const std::vector<StorageRecord>& records) {
  const auto* tensor = object.get<ObjectTensor>();
  if (tensor == nullptr || tensor->form != ObjectTensor::Form::dense || tensor->conj || tensor->neg) return false;
  const StorageRecord& record = records.at(tensor->storage);
  return record.is_stored && !record.swap_bytes;
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

bool FileTable::is_table(const Object& object, const std::vector<StorageRecord>& records) {
  const auto* dict = object.get<ObjectDict>();
  return dict != nullptr && !dict->items.empty() &&
         std::all_of(dict->items.begin(), dict->items.end(), [&](const auto& item) {
           return item.first->template is<ObjectString>() && is_dense(*item.second, records);
         });
}

FileTable::FileTable(const Object& object, std::vector<TakenTensor>& taken)
    : dict_(*object.get<ObjectDict>()), taken_(taken) {}

std::optional<std::size_t> FileTable::find(const std::string& wanted, std::size_t expected) const {
  if (expected < size() && name(expected) == wanted) return expected;
  if (by_name_.size() == 0) {
    by_name_.reserve(size());
    for (std::size_t i = 0; i < size(); ++i) {
      by_name_.find_or_add(hash_of(name(i)), static_cast<std::uint32_t>(i), [](std::uint32_t) { return false; });
    }
  }
  const std::uint32_t* found = by_name_.find(hash_of(wanted), [&](std::uint32_t i) { return name(i) == wanted; });
  return found == nullptr ? std::nullopt : std::optional<std::size_t>(*found);
}

bool FileTable::take(std::size_t index, const at::Tensor& target) {
  if (target.is_inference() && !c10::InferenceMode::is_enabled()) return false;
  const auto& tensor = *dict_.items[index].second->get<ObjectTensor>();
  const auto range = range_for(target, tensor);
  if (range) taken_.push_back({&tensor, *range});
  return range.has_value();
}

FileTables find_tables(const Object& root, const std::vector<std::string>& names,
                       const std::vector<StorageRecord>& records) {
  FileTables tables;
  if (names.empty() && FileTable::is_table(root, records)) tables[""] = &root;
  const auto* dict = root.get<ObjectDict>();
  if (names.empty() || dict == nullptr) return tables;
  for (const auto& [key, item] : dict->items) {
    const auto* name = key->get<ObjectString>();
    const bool is_named = name != nullptr && std::find(names.begin(), names.end(), name->utf8) != names.end();
    // Names with brackets are those of items in lists, too, and "" is that of the whole.
    if (!is_named || name->utf8.empty() || name->utf8.find('[') != std::string::npos) continue;
    if (FileTable::is_table(*item, records)) tables[name->utf8] = item;
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
