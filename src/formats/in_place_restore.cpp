// SPDX-License-Identifier: Apache-2.0
#include "formats/in_place_restore.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <iterator>
#include <new>

#include "value/replace_storages.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

constexpr std::int64_t kPieceBytes = 8 << 20;  // of a tensor that cannot be read where it belongs

std::int64_t n_bytes_of(const at::Tensor& tensor) {
  return tensor.numel() * static_cast<std::int64_t>(tensor.element_size());
}

// What writes into its memory by itself tells autograd, and whoever looks for changes.
void tell_of_change(const at::Tensor& tensor) {
  if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
}

// Of one shape, elements in one order and without holes, on the CPU, as `like`'s are.
bool is_laid_out_as(const at::Tensor& target, const at::Tensor& like) {
  if (!target.is_cpu() || !has_plain_storage(target) || target.is_conj() || target.is_neg()) return false;
  if (target.scalar_type() != like.scalar_type() || target.sizes() != like.sizes()) return false;
  if (!target.is_non_overlapping_and_dense()) return false;
  for (std::int64_t dim = 0; dim < target.dim(); ++dim) {
    if (target.size(dim) > 1 && target.stride(dim) != like.stride(dim)) return false;
  }
  return true;
}

std::uint64_t hash_of_address(const c10::Storage& storage) {
  return hash_of(reinterpret_cast<std::uintptr_t>(storage.unsafeGetStorageImpl()));
}

// Of a tensor's storage and its place there.
std::uint64_t hash_of_place(const at::Tensor& tensor) {
  return hash_of(hash_of_address(tensor.storage()) ^ static_cast<std::uint64_t>(tensor.storage_offset()));
}

// Requires: both have plain storages.
bool are_same_elements(const at::Tensor& a, const at::Tensor& b) {
  return a.storage().unsafeGetStorageImpl() == b.storage().unsafeGetStorageImpl() &&
         a.scalar_type() == b.scalar_type() && a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() &&
         a.strides() == b.strides();
}

// Copies into the very same elements as a later one are left out: shared parameters and tied names are read once.
std::vector<const LoadPlan::TensorCopy*> last_of_each(const std::vector<LoadPlan::TensorCopy>& copies) {
  std::vector<const LoadPlan::TensorCopy*> result;
  HashTable<const at::Tensor*> targets;
  for (std::size_t i = copies.size(); i-- > 0;) {
    const at::Tensor& target = copies[i].target;
    const auto is_it = [&](const at::Tensor* other) { return are_same_elements(*other, target); };
    const bool is_plain = has_plain_storage(target);
    if (is_plain && targets.find_or_add(hash_of_place(target), &target, is_it) != nullptr) continue;
    result.push_back(&copies[i]);
  }
  std::reverse(result.begin(), result.end());
  return result;
}

// The bytes between a tensor's first and last element, on the CPU.
struct Extent {
  const char* begin = nullptr;
  const char* end = nullptr;
};

Extent extent_of(const at::Tensor& tensor) {
  if (!tensor.is_cpu() || !has_plain_storage(tensor) || tensor.numel() == 0) return {};
  std::int64_t last = 0;
  for (std::int64_t dim = 0; dim < tensor.dim(); ++dim) last += (tensor.size(dim) - 1) * tensor.stride(dim);
  const auto* begin = static_cast<const char*>(tensor.const_data_ptr());
  return {begin, begin + (last + 1) * static_cast<std::int64_t>(tensor.element_size())};
}

using NumberedExtent = std::pair<Extent, std::size_t>;

// Those of all copies, by where they begin. Tensors that were made one after another mostly lie so, too: those that
// don't are sorted by themselves.
std::vector<NumberedExtent> sorted_extents(const std::vector<const LoadPlan::TensorCopy*>& copies) {
  const auto is_before = [](const NumberedExtent& a, const NumberedExtent& b) {
    return std::less<>()(a.first.begin, b.first.begin);
  };
  std::vector<NumberedExtent> sorted, others;
  sorted.reserve(copies.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const NumberedExtent extent(extent_of(copies[i]->target), i);
    (sorted.empty() || !is_before(extent, sorted.back()) ? sorted : others).push_back(extent);
  }
  std::sort(others.begin(), others.end(), is_before);
  const auto middle = sorted.insert(sorted.end(), others.begin(), others.end());
  std::inplace_merge(sorted.begin(), middle, sorted.end(), is_before);
  return sorted;
}

// For each copy, whether another one writes between its first and last byte: then their order matters.
std::vector<bool> find_overlaps(const std::vector<const LoadPlan::TensorCopy*>& copies) {
  std::vector<bool> overlaps(copies.size());
  NumberedExtent farthest{};
  for (const auto& [extent, index] : sorted_extents(copies)) {
    if (extent.begin == extent.end) continue;
    if (std::less<>()(extent.begin, farthest.first.end)) overlaps[index] = overlaps[farthest.second] = true;
    if (std::less<>()(farthest.first.end, extent.end)) farthest = {extent, index};
  }
  return overlaps;
}

// Adds to an error's message what it leaves behind.
template <class Body>
auto telling(const std::string& what_is_left, Body body) {
  try {
    return body();
  } catch (const IoError& error) {
    throw IoError(error.what() + what_is_left, error.error_number());
  } catch (const CorruptError& error) {
    throw CorruptError(error.what() + what_is_left);
  } catch (const std::bad_alloc&) {
    throw IoError("not enough memory" + what_is_left, ENOMEM);
  }
}

}  // namespace

InPlaceRestore::InPlaceRestore(const StorageReader& reader, const std::shared_ptr<void>& mapped,
                               const LoadOptions& options)
    : reader_(reader),
      transactional_(options.transactional),
      has_state_(options.state != nullptr),
      mmap_(options.mmap && !has_state_),
      unchecked_(mmap_ ? reader_.map_unchecked(options) : nullptr),
      map_location_(options.map_location) {
  const auto mapping = make_mapping(mapped);
  const std::size_t n_storages = reader_.archive().storages().size();
  storages_.reserve(n_storages);
  locations_.reserve(n_storages);
  by_storage_.reserve(n_storages);
  for (std::size_t i = 0; i < n_storages; ++i) {
    auto storage = reader_.map(i, mapping, unchecked_);
    if (storage) to_check_.push_back(i);
    is_mapped_.push_back(storage.has_value());
    storages_.push_back(storage ? *std::move(storage) : reader_.read(i));
    addresses_.push_back(storages_.back().unsafeGetStorageImpl());
    by_storage_.find_or_add(hash_of_address(storages_.back()), static_cast<std::uint32_t>(i),
                            [](std::uint32_t) { return false; });
    locations_.push_back(reader_.archive().graph().storages[i].location);
  }
}

std::optional<std::size_t> InPlaceRestore::find(const c10::Storage& storage) const {
  const std::uint32_t* index = by_storage_.find(
      hash_of_address(storage), [&](std::uint32_t i) { return addresses_[i] == storage.unsafeGetStorageImpl(); });
  return index == nullptr ? std::nullopt : std::optional<std::size_t>(*index);
}

bool InPlaceRestore::own_storages_of(OpaqueContext& context) {
  bool found = false;
  for (std::size_t i = 0; i < context.storages.size(); ++i) {
    if (!context.storages[i]) continue;
    storages_[i] = own(storages_[i]);
    found = true;
  }
  if (found) use_own(context);
  return found;
}

bool InPlaceRestore::own_unless_plain(OpaqueContext& context, const Value& value) {
  bool found = false;
  Value copy = value;
  replace_storages(
      copy, [](const c10::Storage& storage) { return storage; },
      [&found](const at::Tensor& tensor) {
        found = true;
        return tensor;
      });
  if (!found) return false;
  for (c10::Storage& storage : storages_) storage = own(storage);
  use_own(context);
  return true;
}

void InPlaceRestore::use_own(OpaqueContext& context) {
  context.storages = storages_;
  context.tensors.clear();
}

void InPlaceRestore::restrict_to(const Value& value) {
  to_check_.clear();
  Value copy = value;
  replace_storages(
      copy,
      [this](const c10::Storage& storage) {
        if (const auto index = find(storage); index && is_mapped_[*index]) to_check_.push_back(*index);
        return storage;
      },
      [](const at::Tensor& tensor) { return tensor; });
}

void InPlaceRestore::check(const std::vector<LoadPlan::TensorCopy>& copies) {
  const auto needed = last_of_each(copies);
  const std::vector<bool> overlaps = find_overlaps(needed);
  std::vector<bool> checked_later(storages_.size());
  for (std::size_t i = 0; i < needed.size(); ++i) {
    const auto range = overlaps[i] ? std::nullopt : range_for(needed[i]->target, needed[i]->source);
    (range ? direct_ : others_).push_back(needed[i]);
    if (range && is_whole(*range)) checked_later[range->storage] = true;
  }
  if (!reader_.verifies()) return;
  if (transactional_) return reader_.check(to_check_);
  std::vector<std::size_t> now;
  std::copy_if(to_check_.begin(), to_check_.end(), std::back_inserter(now),
               [&](std::size_t index) { return !checked_later[index]; });
  reader_.check(now);
}

void InPlaceRestore::copy() {
  const at::NoGradGuard no_grad;
  telling("; the state is restored in part and no longer to be used", [&] {
    reader_.read_ranges(take_ranges(), !transactional_);
    for (const LoadPlan::TensorCopy* each : others_) {
      if (storage_of(each->source)) {
        copy_pieces(each->target, each->source);
      } else {
        each->target.copy_(each->source);
      }
    }
  });
}

// What ran since check() may have given a target other memory.
std::vector<StorageRange> InPlaceRestore::take_ranges() {
  std::vector<StorageRange> ranges;
  ranges.reserve(direct_.size());
  for (const LoadPlan::TensorCopy* each : direct_) {
    if (const auto range = range_for(each->target, each->source)) {
      tell_of_change(each->target);
      ranges.push_back(*range);
    } else {
      if (!transactional_ && reader_.verifies()) reader_.check({*storage_of(each->source)});
      others_.push_back(each);
    }
  }
  return ranges;
}

Value InPlaceRestore::own_rest(const Value& value) {
  if (!has_state_) return own(value);
  return telling("; the state was restored", [&] { return own(value); });
}

Dict InPlaceRestore::own(const Dict& state) { return std::move(own(Value(state)).mutable_as<Dict>()); }

Value InPlaceRestore::own(const Value& value) {
  Value copy(value);
  replace_storages(
      copy, [this](const c10::Storage& storage) { return own(storage); },
      [](const at::Tensor& tensor) { return tensor.clone(); });
  return copy;
}

c10::Storage InPlaceRestore::own(const c10::Storage& storage) {
  const auto index = find(storage);
  if (!index) return storage;
  Replaced& replaced = replaced_[*index];
  if (!replaced.by) {
    const bool is_mapped = is_mapped_[*index];
    if (mmap_ && is_mapped && reader_.verifies() && !unchecked_) reader_.check({*index});
    replaced.by = map_location_.map(is_mapped && !mmap_ ? reader_.read(*index) : storage, locations_[*index]);
    replaced.storage = storage;
  }
  return replaced.by;
}

std::optional<std::size_t> InPlaceRestore::storage_of(const at::Tensor& tensor) const {
  if (!has_plain_storage(tensor)) return std::nullopt;
  const auto index = find(tensor.storage());
  return index && is_mapped_[*index] ? index : std::nullopt;
}

std::optional<StorageRange> InPlaceRestore::range_for(const at::Tensor& target, const at::Tensor& source) const {
  const auto storage = storage_of(source);
  if (!storage || source.is_conj() || source.is_neg() || !is_laid_out_as(target, source)) return std::nullopt;
  const auto offset = static_cast<std::uint64_t>(source.storage_offset()) * source.element_size();
  const auto n_bytes = static_cast<std::uint64_t>(n_bytes_of(target));
  return StorageRange{*storage, offset, n_bytes, n_bytes > 0 ? target.mutable_data_ptr() : nullptr};
}

bool InPlaceRestore::is_whole(const StorageRange& range) const {
  return range.n_bytes == reader_.archive().storages()[range.storage].n_bytes;
}

// By rows of the first dimension, through a buffer, until a piece is small; what is contiguous in the file is not
// touched through its mapping.
void InPlaceRestore::copy_pieces(const at::Tensor& target, const at::Tensor& source) const {
  if (source.numel() == 0) return;
  const std::int64_t n_bytes = n_bytes_of(source);
  const bool is_piece = n_bytes <= kPieceBytes || source.dim() == 0;
  if (is_piece && source.is_contiguous() && !source.is_conj() && !source.is_neg()) {
    const at::Tensor piece = at::empty_like(source);
    reader_.read_ranges({*range_for(piece, source)}, false);
    target.copy_(piece);
  } else if (is_piece) {
    target.copy_(source);
  } else {
    const std::int64_t n_rows = std::max<std::int64_t>(kPieceBytes / (n_bytes / source.size(0)), 1);
    if (source.size(0) == 1) return copy_pieces(target.select(0, 0), source.select(0, 0));
    for (std::int64_t row = 0; row < source.size(0); row += n_rows) {
      const std::int64_t n = std::min(n_rows, source.size(0) - row);
      copy_pieces(target.narrow(0, row, n), source.narrow(0, row, n));
    }
  }
}

}  // namespace ckptio::detail
