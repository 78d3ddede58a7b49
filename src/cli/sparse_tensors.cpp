// SPDX-License-Identifier: Apache-2.0
#include "cli/sparse_tensors.h"

#include <cstring>

#include "ckptio/error.h"
#include "cli/elements.h"

namespace ckptio::cli {
namespace {

using detail::DType;
using detail::ObjectTensor;

// More than any nested tensor has; their sizes are kept in memory.
constexpr std::uint64_t kMaxNestedNumbers = std::uint64_t{1} << 20;

const ObjectTensor& part(const ObjectTensor& tensor, std::size_t index) {
  return *tensor.parts.at(index)->get<ObjectTensor>();
}

// Reads integers one after the other.
class IntegerReader {
 public:
  IntegerReader(StorageBytes& bytes, const ObjectTensor& tensor)
      : dtype_(tensor.dtype), reader_(bytes, view_of(tensor).value()) {}

  std::int64_t next() {
    if (at_ == piece_.n_bytes) piece_ = reader_.next(), at_ = 0;
    std::int64_t value = 0;
    if (dtype_ == DType::int64) {
      std::memcpy(&value, piece_.data + at_, 8);
    } else {
      std::int32_t narrow = 0;
      std::memcpy(&narrow, piece_.data + at_, 4);
      value = narrow;
    }
    at_ += detail::item_size(dtype_);
    return value;
  }

 private:
  DType dtype_;
  TensorReader reader_;
  TensorReader::Piece piece_{};
  std::size_t at_ = 0;
};

}  // namespace

std::optional<std::vector<unsigned char>> dense_bytes(StorageBytes& bytes, const ObjectTensor& tensor,
                                                      std::uint64_t max_bytes) {
  const ObjectTensor &indices = part(tensor, 0), &values = part(tensor, 1);
  const std::size_t item = detail::item_size(tensor.dtype);
  const std::uint64_t n_dense = n_elements(tensor.sizes);
  const auto n_sparse_dims = static_cast<std::size_t>(indices.sizes[0]);
  const auto n_values = static_cast<std::size_t>(indices.sizes[1]);
  const auto view = view_of(values);
  if (n_dense > max_bytes / item || !view || n_bytes_of(*view) > max_bytes || n_values > max_bytes / 8) return {};

  std::vector<unsigned char> dense(n_dense * item);
  if (dense.empty() || n_values == 0) return dense;
  std::uint64_t n_block = 1;  // elements that one index stands for
  for (std::size_t d = n_sparse_dims; d < tensor.sizes.size(); ++d)
    n_block *= static_cast<std::uint64_t>(tensor.sizes[d]);
  std::vector<std::uint64_t> places(n_values);
  IntegerReader reader(bytes, indices);
  for (std::size_t d = 0; d < n_sparse_dims; ++d) {
    for (std::uint64_t& place : places) {
      place = place * static_cast<std::uint64_t>(tensor.sizes[d]) + static_cast<std::uint64_t>(reader.next());
    }
  }
  const std::vector<unsigned char> terms = bytes_of(bytes, *view);
  if (terms.size() != n_values * n_block * item) return {};
  for (std::size_t i = 0; i < n_values * n_block; ++i) {
    const std::uint64_t place = places[i / n_block] * n_block + i % n_block;
    if (!add_element(tensor.dtype, &dense[place * item], &terms[i * item])) return {};
  }
  return dense;
}

std::vector<TensorView> nested_items(StorageBytes& bytes, const ObjectTensor& tensor) {
  const ObjectTensor &sizes = part(tensor, 1), &strides = part(tensor, 2), &offsets = part(tensor, 3);
  const TensorView whole = view_of(part(tensor, 0)).value();
  const std::uint64_t n_items = n_elements(offsets.sizes);
  const std::int64_t n_dims = sizes.sizes.size() == 2 ? sizes.sizes[1] : 0;
  if (n_items > kMaxNestedNumbers || n_elements(sizes.sizes) > kMaxNestedNumbers) {
    throw UnsupportedError("cannot read '" + bytes.archive().source().name + "': a nested tensor of " +
                           std::to_string(n_items) + " parts");
  }
  IntegerReader size_reader(bytes, sizes), stride_reader(bytes, strides), offset_reader(bytes, offsets);
  std::vector<TensorView> items(n_items, whole);
  for (TensorView& item : items) {
    item.sizes.resize(0), item.strides.resize(0);
    item.offset = offset_reader.next();
    for (std::int64_t d = 0; d < n_dims; ++d) {
      item.sizes.push_back(size_reader.next());
      item.strides.push_back(stride_reader.next());
    }
  }
  return items;
}

}  // namespace ckptio::cli
