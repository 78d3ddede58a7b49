// SPDX-License-Identifier: Apache-2.0
#include "formats/in_place_restore.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cerrno>
#include <compare>
#include <cstdint>
#include <functional>
#include <iterator>
#include <new>
#include <tuple>
#include <unordered_set>

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

// Which elements a tensor is: equal for two names of one parameter.
std::strong_ordering compare_places(const at::Tensor& a, const at::Tensor& b) {
  const auto place_of = [](const at::Tensor& tensor) {
    return std::tuple(reinterpret_cast<std::uintptr_t>(tensor.storage().unsafeGetStorageImpl()),
                      tensor.storage_offset(), static_cast<int>(tensor.scalar_type()));
  };
  if (const auto order = place_of(a) <=> place_of(b); order != 0) return order;
  const auto compare = [](c10::IntArrayRef x, c10::IntArrayRef y) {
    return std::lexicographical_compare_three_way(x.begin(), x.end(), y.begin(), y.end());
  };
  if (const auto order = compare(a.sizes(), b.sizes()); order != 0) return order;
  return compare(a.strides(), b.strides());
}

// Copies into the very same elements as a later one are left out: shared parameters and tied names are read once.
std::vector<const LoadPlan::TensorCopy*> last_of_each(const std::vector<LoadPlan::TensorCopy>& copies) {
  std::vector<std::size_t> sorted;
  sorted.reserve(copies.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (has_plain_storage(copies[i].target)) sorted.push_back(i);
  }
  std::sort(sorted.begin(), sorted.end(), [&](std::size_t a, std::size_t b) {
    const auto order = compare_places(copies[a].target, copies[b].target);
    return order != 0 ? order < 0 : a < b;
  });
  std::vector<bool> is_left_out(copies.size());
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const at::Tensor& before = copies[sorted[i - 1]].target;
    is_left_out[sorted[i - 1]] = compare_places(before, copies[sorted[i]].target) == 0;
  }
  std::vector<const LoadPlan::TensorCopy*> result;
  result.reserve(copies.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (!is_left_out[i]) result.push_back(&copies[i]);
  }
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

// For each copy, whether another one writes between its first and last byte: then their order matters.
std::vector<bool> find_overlaps(const std::vector<const LoadPlan::TensorCopy*>& copies) {
  std::vector<std::pair<Extent, std::size_t>> extents;
  for (std::size_t i = 0; i < copies.size(); ++i) extents.emplace_back(extent_of(copies[i]->target), i);
  std::sort(extents.begin(), extents.end(),
            [](const auto& a, const auto& b) { return std::less<>()(a.first.begin, b.first.begin); });
  std::vector<bool> overlaps(copies.size());
  std::pair<Extent, std::size_t> farthest{};
  for (const auto& [extent, index] : extents) {
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
  const std::size_t n_storages = reader_.archive().storages().size();
  storages_.reserve(n_storages);
  locations_.reserve(n_storages);
  in_file_.reserve(n_storages);
  for (std::size_t i = 0; i < reader_.archive().storages().size(); ++i) {
    if (auto storage = reader_.map(i, mapped, unchecked_)) {
      in_file_[storage->unsafeGetStorageImpl()] = i;
      to_check_.push_back(i);
      storages_.push_back(*std::move(storage));
    } else {
      storages_.push_back(reader_.read(i));
      read_[storages_.back().unsafeGetStorageImpl()] = i;
    }
    locations_.push_back(reader_.archive().graph().storages[i].location);
  }
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
        const auto mapped = in_file_.find(storage.unsafeGetStorageImpl());
        if (mapped != in_file_.end()) to_check_.push_back(mapped->second);
        return storage;
      },
      [](const at::Tensor& tensor) { return tensor; });
}

void InPlaceRestore::check(const std::vector<LoadPlan::TensorCopy>& copies) {
  const auto needed = last_of_each(copies);
  const std::vector<bool> overlaps = find_overlaps(needed);
  for (std::size_t i = 0; i < needed.size(); ++i) {
    const auto& [target, source] = *needed[i];
    (!overlaps[i] && range_for(target, source) ? direct_ : others_).push_back(*needed[i]);
  }
  if (!reader_.verifies()) return;
  if (transactional_) return reader_.check(to_check_);
  std::unordered_set<std::size_t> checked_later;
  for (const auto& [target, source] : direct_) {
    const auto range = range_for(target, source);
    if (is_whole(*range)) checked_later.insert(range->storage);
  }
  std::vector<std::size_t> now;
  std::copy_if(to_check_.begin(), to_check_.end(), std::back_inserter(now),
               [&](std::size_t index) { return !checked_later.contains(index); });
  reader_.check(now);
}

void InPlaceRestore::copy() {
  const at::NoGradGuard no_grad;
  telling("; the state is restored in part and no longer to be used", [&] {
    reader_.read_ranges(take_ranges(), !transactional_);
    for (const LoadPlan::TensorCopy& each : others_) {
      if (storage_of(each.source)) {
        copy_pieces(each.target, each.source);
      } else {
        each.target.copy_(each.source);
      }
    }
  });
}

// What ran since check() may have given a target other memory.
std::vector<StorageRange> InPlaceRestore::take_ranges() {
  std::vector<StorageRange> ranges;
  for (const LoadPlan::TensorCopy& each : direct_) {
    if (const auto range = range_for(each.target, each.source)) {
      tell_of_change(each.target);
      ranges.push_back(*range);
    } else {
      if (!transactional_ && reader_.verifies()) reader_.check({*storage_of(each.source)});
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
  const auto mapped = in_file_.find(storage.unsafeGetStorageImpl());
  const auto read = read_.find(storage.unsafeGetStorageImpl());
  const bool is_mapped = mapped != in_file_.end();
  if (!is_mapped && read == read_.end()) return storage;
  Replaced& replaced = replaced_[storage.unsafeGetStorageImpl()];
  if (!replaced.by) {
    const std::size_t index = is_mapped ? mapped->second : read->second;
    if (mmap_ && is_mapped && reader_.verifies() && !unchecked_) reader_.check({index});
    replaced.by = map_location_.map(is_mapped && !mmap_ ? reader_.read(index) : storage, locations_[index]);
    replaced.storage = storage;
  }
  return replaced.by;
}

std::optional<std::size_t> InPlaceRestore::storage_of(const at::Tensor& tensor) const {
  if (!has_plain_storage(tensor)) return std::nullopt;
  const auto found = in_file_.find(tensor.storage().unsafeGetStorageImpl());
  if (found == in_file_.end()) return std::nullopt;
  return found->second;
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
