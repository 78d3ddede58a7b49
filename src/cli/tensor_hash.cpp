// SPDX-License-Identifier: Apache-2.0
#include "cli/tensor_hash.h"

#include "cli/sha256.h"

namespace ckptio::cli {
namespace {

// What all tensors together may mean: this many times their storages, and as much again as a second's work.
constexpr std::uint64_t kMaxTimesStored = 8;
constexpr std::uint64_t kMaxExtraBytes = std::uint64_t{256} << 20;

std::string key_of(const TensorView& view) {
  std::string key = std::to_string(view.storage) + ":" + std::to_string(view.offset) + ":" +
                    std::to_string(static_cast<int>(view.dtype)) + (view.conj ? "c" : "") + (view.neg ? "n" : "");
  for (const std::int64_t size : view.sizes) key += ":" + std::to_string(size);
  for (const std::int64_t stride : view.strides) key += ";" + std::to_string(stride);
  return key;
}

}  // namespace

TensorHash::TensorHash(StorageBytes& bytes) : bytes_(bytes), n_left_(kMaxExtraBytes) {
  for (const detail::StorageRecord& record : bytes.archive().storages()) n_left_ += kMaxTimesStored * record.n_bytes;
}

bool TensorHash::afford(std::uint64_t n_bytes) {
  if (n_bytes > n_left_) return false;
  n_left_ -= n_bytes;
  return true;
}

std::optional<std::string> TensorHash::of(const TensorView& view) {
  std::string& known = known_[key_of(view)];
  if (!known.empty()) return known;
  if (!afford(n_bytes_of(view))) return std::nullopt;
  Sha256 hash;
  TensorReader reader(bytes_, view);
  for (auto piece = reader.next(); piece.n_bytes > 0; piece = reader.next()) hash.update(piece.data, piece.n_bytes);
  return known = hash.hex();
}

}  // namespace ckptio::cli
