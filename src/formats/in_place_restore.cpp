// SPDX-License-Identifier: Apache-2.0
#include "formats/in_place_restore.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <new>

#include "formats/torch_types.h"
#include "state/prefetch.h"
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

std::uint64_t hash_of_storage(const c10::Storage& storage) { return hash_of_address(storage.unsafeGetStorageImpl()); }

// Of a tensor's storage and its place there.
std::uint64_t hash_of_place(const at::Tensor& tensor) {
  return hash_of(hash_of_storage(tensor.storage()) ^ static_cast<std::uint64_t>(tensor.storage_offset()));
}

// Requires: both have plain storages.
bool are_same_elements(const at::Tensor& a, const at::Tensor& b) {
  return a.storage().unsafeGetStorageImpl() == b.storage().unsafeGetStorageImpl() &&
         a.scalar_type() == b.scalar_type() && a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() &&
         a.strides() == b.strides();
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

struct InPlaceRestore::Extent {
  const char* begin = nullptr;
  const char* end = nullptr;
};

struct InPlaceRestore::Direct {
  Copy copy;
  StorageRange range;
};

namespace {

// For each of some extents, whether another one begins or ends in it. Tensors that were made one after another mostly
// lie so, too: those that don't are sorted by themselves.
template <class Extent>
std::vector<bool> find_overlaps(const std::vector<Extent>& extents) {
  const auto is_before = [&](std::size_t a, std::size_t b) {
    return std::less<>()(extents[a].begin, extents[b].begin);
  };
  std::vector<std::size_t> sorted, others;
  sorted.reserve(extents.size());
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if (extents[i].begin == extents[i].end) continue;
    (sorted.empty() || !is_before(i, sorted.back()) ? sorted : others).push_back(i);
  }
  std::sort(others.begin(), others.end(), is_before);
  const auto middle = sorted.insert(sorted.end(), others.begin(), others.end());
  std::inplace_merge(sorted.begin(), middle, sorted.end(), is_before);
  std::vector<bool> overlaps(extents.size());
  for (std::size_t i = 1, farthest = 0; i < sorted.size(); ++i) {
    const Extent &now = extents[sorted[i]], &before = extents[sorted[farthest]];
    if (std::less<>()(now.begin, before.end)) overlaps[sorted[i]] = overlaps[sorted[farthest]] = true;
    if (std::less<>()(before.end, now.end)) farthest = i;
  }
  return overlaps;
}

}  // namespace

InPlaceRestore::InPlaceRestore(const StorageReader& reader, const std::vector<StorageInfo>& infos,
                               const std::shared_ptr<void>& mapped, const LoadOptions& options)
    : reader_(reader),
      transactional_(options.transactional),
      has_state_(options.state != nullptr),
      mmap_(options.mmap && !has_state_),
      unchecked_(mmap_ ? reader_.map_unchecked(options) : nullptr),
      map_location_(options.map_location),
      infos_(infos),
      mapping_(make_mapping(mapped)),
      storages_(infos.size()),
      is_mapped_(infos.size()),
      is_read_(infos.size()),
      addresses_(infos.size()) {}

InPlaceRestore::~InPlaceRestore() = default;

void InPlaceRestore::add_table(const std::string& name, FileEntries entries) {
  taken_.reserve(taken_.size() + entries.size());
  tables_.try_emplace(name, std::move(entries), taken_);
}

TensorTable* InPlaceRestore::table(const std::string& name) {
  const auto found = tables_.find(name);
  return found == tables_.end() ? nullptr : &found->second;
}

const std::vector<c10::Storage>& InPlaceRestore::make_storages(const std::vector<bool>& wanted) {
  for (std::size_t i = 0; i < storages_.size(); ++i) {
    if (wanted[i]) storage(i);
  }
  return storages_;
}

const std::vector<c10::Storage>& InPlaceRestore::make_storages() {
  by_storage_.reserve(storages_.size());
  return make_storages(std::vector<bool>(storages_.size(), true));
}

const c10::Storage& InPlaceRestore::storage(std::size_t index) {
  if (storages_[index]) return storages_[index];
  auto mapped = reader_.map(index, infos_[index], mapping_, unchecked_);
  (mapped ? is_mapped_ : is_read_)[index] = true;
  storages_[index] = mapped ? *std::move(mapped) : reader_.read(index);
  addresses_[index] = storages_[index].unsafeGetStorageImpl();
  by_storage_.find_or_add(hash_of_storage(storages_[index]), static_cast<std::uint32_t>(index),
                          [](std::uint32_t) { return false; });
  return storages_[index];
}

std::optional<std::size_t> InPlaceRestore::find(const c10::Storage& storage) const {
  const std::uint32_t* index = by_storage_.find(
      hash_of_storage(storage), [&](std::uint32_t i) { return addresses_[i] == storage.unsafeGetStorageImpl(); });
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
  restricted_to_.emplace();
  Value copy = value;
  replace_storages(
      copy,
      [this](const c10::Storage& storage) {
        if (const auto index = find(storage); index && is_mapped_[*index]) restricted_to_->push_back(*index);
        return storage;
      },
      [](const at::Tensor& tensor) { return tensor; });
}

std::vector<std::size_t> InPlaceRestore::storages_to_check() const {
  if (restricted_to_) return *restricted_to_;
  std::vector<std::size_t> result;
  result.reserve(storages_.size());
  for (std::size_t i = 0; i < storages_.size(); ++i) {
    const bool is_left = !is_read_[i] && !reader_.archive().storages()[i].is_checked;
    if (is_left && reader_.is_plain(i)) result.push_back(i);
  }
  return result;
}

std::vector<InPlaceRestore::Copy> InPlaceRestore::sources_of(const std::vector<LoadPlan::TensorCopy>& copies) const {
  std::vector<Copy> result;
  result.reserve(copies.size());
  auto taken = taken_.begin();
  for (const LoadPlan::TensorCopy& copy : copies) {
    result.push_back({&copy, copy.source.defined() ? nullptr : &*taken++});
  }
  return result;
}

InPlaceRestore::Extent InPlaceRestore::extent_of(const Copy& copy) {
  if (copy.taken != nullptr) {
    const auto* begin = static_cast<const char*>(copy.taken->range.destination);
    return {begin, begin + copy.taken->range.n_bytes};
  }
  const at::Tensor& tensor = copy.planned->target;
  if (!tensor.is_cpu() || !has_plain_storage(tensor) || tensor.numel() == 0) return {};
  std::int64_t last = 0;
  for (std::int64_t dim = 0; dim < tensor.dim(); ++dim) last += (tensor.size(dim) - 1) * tensor.stride(dim);
  const auto* begin = static_cast<const char*>(tensor.const_data_ptr());
  return {begin, begin + (last + 1) * static_cast<std::int64_t>(tensor.element_size())};
}

std::vector<InPlaceRestore::Extent> InPlaceRestore::extents_of(const std::vector<Copy>& copies) {
  std::vector<Extent> extents(copies.size());
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (copies[i].taken == nullptr) {
      prefetch_ahead(
          i, copies.size(), [&](std::size_t at) -> auto& { return copies[at].planned->target; });
    }
    extents[i] = extent_of(copies[i]);
  }
  return extents;
}

// Copies into the very same elements as a later one are left out: shared parameters and tied names are read once.
std::vector<InPlaceRestore::Copy> InPlaceRestore::last_of_each(const std::vector<Copy>& copies) {
  std::vector<Copy> result;
  HashTable<const at::Tensor*> targets;
  for (std::size_t i = copies.size(); i-- > 0;) {
    const at::Tensor& target = copies[i].planned->target;
    const auto is_it = [&](const at::Tensor* other) { return are_same_elements(*other, target); };
    const bool is_plain = has_plain_storage(target);
    if (is_plain && targets.find_or_add(hash_of_place(target), &target, is_it) != nullptr) continue;
    result.push_back(copies[i]);
  }
  std::reverse(result.begin(), result.end());
  return result;
}

void InPlaceRestore::check(const std::vector<LoadPlan::TensorCopy>& copies) {
  std::vector<Copy> needed = sources_of(copies);
  std::vector<Extent> extents = extents_of(needed);
  std::vector<bool> overlaps = find_overlaps(extents);
  const bool all_on_cpu = std::all_of(extents.begin(), extents.end(), [](const Extent& each) { return each.begin; });
  if (!all_on_cpu || std::find(overlaps.begin(), overlaps.end(), true) != overlaps.end()) {
    needed = last_of_each(needed);
    overlaps = find_overlaps(extents_of(needed));
  }
  std::vector<bool> checked_later(storages_.size());
  direct_.reserve(needed.size());
  for (std::size_t i = 0; i < needed.size(); ++i) {
    const auto range = overlaps[i] ? std::nullopt : range_for(needed[i]);
    if (!range) {
      others_.push_back(needed[i]);
      continue;
    }
    direct_.push_back({needed[i], *range});
    if (is_whole(*range)) checked_later[range->storage] = true;
  }
  if (!reader_.verifies()) return;
  std::vector<std::size_t> now = storages_to_check();
  if (!transactional_) std::erase_if(now, [&](std::size_t index) { return checked_later[index]; });
  reader_.check(now);
}

void InPlaceRestore::copy() {
  const at::NoGradGuard no_grad;
  telling("; the state is restored in part and no longer to be used", [&] {
    reader_.read_ranges(take_ranges(), !transactional_);
    for (const Copy& each : others_) {
      const at::Tensor source = make_source(each);
      if (storage_of(source)) {
        copy_pieces(each.planned->target, source);
      } else {
        each.planned->target.copy_(source);
      }
    }
  });
}

// What ran since check() may have given a target other memory.
std::vector<StorageRange> InPlaceRestore::take_ranges() {
  std::vector<StorageRange> ranges;
  ranges.reserve(direct_.size());
  for (std::size_t i = 0; i < direct_.size(); ++i) {
    prefetch_ahead(
        i, direct_.size(), [&](std::size_t at) -> auto& { return direct_[at].copy.planned->target; });
    const Direct& each = direct_[i];
    const at::Tensor& target = each.copy.planned->target;
    const auto range =
        each.copy.taken == nullptr ? range_for(each.copy) : detail::range_for(target, *each.copy.taken->tensor);
    if (range) {
      tell_of_change(target);
      ranges.push_back(*range);
    } else {
      if (!transactional_ && reader_.verifies()) reader_.check({each.range.storage});
      others_.push_back(each.copy);
    }
  }
  return ranges;
}

at::Tensor InPlaceRestore::make_source(const Copy& copy) {
  if (copy.taken == nullptr) return copy.planned->source;
  const ObjectTensor& tensor = *copy.taken->tensor;
  return make_view(storage(tensor.storage), to_scalar_type(tensor.dtype), tensor.offset,
                   {tensor.sizes.data(), tensor.sizes.size()}, {tensor.strides.data(), tensor.strides.size()});
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
    replaced.by = map_location_.map(is_mapped && !mmap_ ? reader_.read(*index) : storage, infos_[*index].location);
    replaced.storage = storage;
  }
  return replaced.by;
}

std::optional<std::size_t> InPlaceRestore::storage_of(const at::Tensor& tensor) const {
  if (!has_plain_storage(tensor)) return std::nullopt;
  const auto index = find(tensor.storage());
  return index && is_mapped_[*index] ? index : std::nullopt;
}

std::optional<StorageRange> InPlaceRestore::range_for(const Copy& copy) const {
  if (copy.taken != nullptr) return copy.taken->range;
  const auto storage = storage_of(copy.planned->source);
  return storage ? detail::range_for(copy.planned->target, copy.planned->source, *storage) : std::nullopt;
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
    reader_.read_ranges({*detail::range_for(piece, source, *storage_of(source))}, false);
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
