// SPDX-License-Identifier: Apache-2.0
// The bytes that a tensor means, in the order of its elements, rows first: whatever its strides, and with conj and neg
// resolved. Piece by piece, so that a tensor may be larger than memory. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "cli/storage_bytes.h"
#include "codec/object.h"

namespace ckptio::cli {

// Where a dense tensor's elements lie. Geometry in elements, inside its storage.
struct TensorView {
  detail::DType dtype = detail::DType::float32;
  detail::Dims sizes, strides;
  std::int64_t offset = 0;
  std::uint32_t storage = 0;
  bool conj = false, neg = false;
};

// Of a dense or quantized tensor with a storage; nullopt for all others, and for packed ones (quint4x2) that are not
// contiguous.
std::optional<TensorView> view_of(const detail::ObjectTensor& tensor);

std::uint64_t n_elements(std::span<const std::int64_t> sizes);
std::uint64_t n_bytes_of(const TensorView& view);

// Reads the bytes in order. `next` gives up to a MB at a time, whole elements, and nothing at the end.
class TensorReader {
 public:
  struct Piece {
    const unsigned char* data = nullptr;
    std::size_t n_bytes = 0;
  };

  TensorReader(StorageBytes& bytes, TensorView view);
  Piece next();  // valid until the next call

 private:
  void gather_rows(unsigned char* destination, std::size_t n_wanted);
  std::size_t gather_block();
  void resolve(std::size_t n_bytes);

  StorageBytes& bytes_;
  TensorView view_;
  std::size_t item_size_;
  std::uint64_t n_left_;          // elements
  std::vector<std::int64_t> at_;  // index of the next element
  bool by_blocks_ = false;
  std::vector<unsigned char> buffer_, run_;
};

// All of it at once, for small tensors.
std::vector<unsigned char> bytes_of(StorageBytes& bytes, const TensorView& view);

}  // namespace ckptio::cli
