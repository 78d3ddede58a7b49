// SPDX-License-Identifier: Apache-2.0
#include "formats/in_place_restore.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "formats/archive_storages.h"
#include "value/replace_storages.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

constexpr std::int64_t kPieceBytes = 8 << 20;  // of a tensor that cannot be read where it belongs

std::int64_t n_bytes_of(const at::Tensor& tensor) {
  return tensor.numel() * static_cast<std::int64_t>(tensor.element_size());
}

// Elements lie in one order and without holes, on the CPU, as `like`'s do.
bool is_laid_out_as(const at::Tensor& target, const at::Tensor& like) {
  if (!target.is_cpu() || !has_plain_storage(target) || target.is_conj() || target.is_neg()) return false;
  if (target.scalar_type() != like.scalar_type() || !target.is_non_overlapping_and_dense()) return false;
  for (std::int64_t dim = 0; dim < target.dim(); ++dim) {
    if (target.size(dim) > 1 && target.stride(dim) != like.stride(dim)) return false;
  }
  return true;
}

// Copies into the very same elements as a later one are left out: shared parameters and tied names are read once.
std::vector<const LoadPlan::TensorCopy*> last_of_each(const std::vector<LoadPlan::TensorCopy>& copies) {
  using Place = std::tuple<const void*, std::int64_t, std::vector<std::int64_t>, std::vector<std::int64_t>>;
  std::map<Place, std::size_t> last;
  const auto place_of = [](const at::Tensor& tensor) {
    return Place(tensor.storage().unsafeGetStorageImpl(), tensor.storage_offset(), tensor.sizes().vec(),
                 tensor.strides().vec());
  };
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (has_plain_storage(copies[i].target)) last[place_of(copies[i].target)] = i;
  }
  std::vector<const LoadPlan::TensorCopy*> result;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const at::Tensor& target = copies[i].target;
    if (!has_plain_storage(target) || last.at(place_of(target)) == i) result.push_back(&copies[i]);
  }
  return result;
}

}  // namespace

InPlaceRestore::InPlaceRestore(const Archive& archive, const RandomAccessFile& file) : archive_(archive) {
  const std::shared_ptr<void> mapped = file.map();
  for (std::size_t i = 0; i < archive.storages().size(); ++i) {
    if (auto storage = map_storage(archive, i, mapped)) {
      in_file_[storage->unsafeGetStorageImpl()] = i;
      storages_.push_back(*std::move(storage));
    } else {
      storages_.push_back(read_storage(archive, i));
    }
  }
}

bool InPlaceRestore::own_storages_of(OpaqueContext& context) {
  bool found = false;
  for (std::size_t i = 0; i < context.storages.size(); ++i) {
    if (!context.storages[i]) continue;
    storages_[i] = own(storages_[i]);
    found = true;
  }
  if (!found) return false;
  context.storages = storages_;
  context.tensors.clear();
  return true;
}

void InPlaceRestore::check() {
  for (std::size_t i = 0; i < storages_.size(); ++i) {
    if (in_file_.contains(storages_[i].unsafeGetStorageImpl())) archive_.verify_storage(i);
  }
}

void InPlaceRestore::copy(const std::vector<LoadPlan::TensorCopy>& copies) {
  const at::NoGradGuard no_grad;
  try {
    for (const LoadPlan::TensorCopy* each : last_of_each(copies)) {
      if (record_of(each->source) == nullptr) {
        each->target.copy_(each->source);
      } else if (!read_into(each->target, each->source)) {
        copy_pieces(each->target, each->source);
      }
    }
  } catch (const IoError& error) {
    throw IoError(std::string(error.what()) + "; the state is restored in part and no longer to be used",
                  error.error_number());
  }
}

Dict InPlaceRestore::own(const Dict& state) {
  Value copy(state);
  replace_storages(
      copy, [this](const c10::Storage& storage) { return own(storage); },
      [](const at::Tensor& tensor) { return tensor.clone(); });
  return std::move(copy.mutable_as<Dict>());
}

c10::Storage InPlaceRestore::own(const c10::Storage& storage) {
  const auto mapped = in_file_.find(storage.unsafeGetStorageImpl());
  if (mapped == in_file_.end()) return storage;
  c10::Storage& owned = owned_[mapped->first];
  if (!owned) owned = read_storage(archive_, mapped->second);
  return owned;
}

const StorageRecord* InPlaceRestore::record_of(const at::Tensor& tensor) const {
  if (!has_plain_storage(tensor)) return nullptr;
  const auto found = in_file_.find(tensor.storage().unsafeGetStorageImpl());
  return found != in_file_.end() ? &archive_.storages()[found->second] : nullptr;
}

bool InPlaceRestore::read_into(const at::Tensor& target, const at::Tensor& source) const {
  if (source.is_conj() || source.is_neg() || !is_laid_out_as(target, source)) return false;
  const auto offset = static_cast<std::uint64_t>(source.storage_offset()) * source.element_size();
  const auto n_bytes = static_cast<std::size_t>(n_bytes_of(target));
  if (n_bytes > 0)
    archive_.source().read_at(record_of(source)->data_offset + offset, target.mutable_data_ptr(), n_bytes);
  return true;
}

// By rows of the first dimension, through a buffer, until a piece is small; what is contiguous in the file is not
// touched through its mapping.
void InPlaceRestore::copy_pieces(const at::Tensor& target, const at::Tensor& source) const {
  if (source.numel() == 0) return;
  const std::int64_t n_bytes = n_bytes_of(source);
  const bool is_piece = n_bytes <= kPieceBytes || source.dim() == 0;
  if (is_piece && source.is_contiguous() && !source.is_conj() && !source.is_neg()) {
    const at::Tensor piece = at::empty_like(source);
    read_into(piece, source);
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
