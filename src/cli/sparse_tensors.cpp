// SPDX-License-Identifier: Apache-2.0
#include "cli/sparse_tensors.h"

#include <cstring>

#include "ckptio/error.h"
#include "cli/elements.h"
#include "codec/zip_directory.h"

namespace ckptio::cli {
namespace {

using detail::DType;
using detail::LayoutKind;
using detail::ObjectTensor;

// More than any nested tensor has; their sizes are kept in memory.
constexpr std::uint64_t kMaxNestedNumbers = std::uint64_t{1} << 20;

// The work on one sparse tensor: expanded indices (stride 0) may claim to be many more than the file has bytes.
constexpr std::uint64_t kMaxExpandedIndices = std::uint64_t{1} << 26;

[[noreturn]] void throw_bad(const StorageBytes& bytes, const std::string& where, const std::string& what) {
  throw CorruptError("cannot read '" + bytes.archive().source().name + "': " + where + ": " + what);
}

const ObjectTensor& part(const ObjectTensor& tensor, std::size_t index) {
  return *tensor.parts.at(index)->get<ObjectTensor>();
}

// Reads integers one after the other.
class IntegerReader {
 public:
  IntegerReader(StorageBytes& bytes, const ObjectTensor& tensor, const std::string& where)
      : dtype_(tensor.dtype), reader_(bytes, *require_view(bytes, tensor, where)) {}

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
  static std::optional<TensorView> require_view(StorageBytes& bytes, const ObjectTensor& tensor,
                                                const std::string& where) {
    const bool integers = tensor.dtype == DType::int64 || tensor.dtype == DType::int32;
    auto view = view_of(tensor);
    if (!integers || !view) throw_bad(bytes, where, "indices of 32 or 64 bits in a storage expected");
    const std::uint64_t n_stored = bytes.archive().storages()[view->storage].n_bytes / detail::item_size(tensor.dtype);
    const std::uint64_t n = n_elements(tensor.sizes);
    if (n > n_stored && n > kMaxExpandedIndices) {
      throw_bad(bytes, where, std::to_string(n) + " indices found in a storage of " + std::to_string(n_stored));
    }
    return view;
  }

  DType dtype_;
  TensorReader reader_;
  TensorReader::Piece piece_{};
  std::size_t at_ = 0;
};

void require_index(const StorageBytes& bytes, const std::string& where, const char* what, std::int64_t found,
                   std::int64_t size) {
  if (found >= 0 && found < size) return;
  throw_bad(bytes, where,
            std::string(what) + " " + std::to_string(found) + " found, 0 to " + std::to_string(size - 1) + " expected");
}

void check_coo(StorageBytes& bytes, const ObjectTensor& tensor, const std::string& where) {
  const ObjectTensor& indices = part(tensor, 0);
  if (indices.sizes.size() != 2 || static_cast<std::uint64_t>(indices.sizes[0]) > tensor.sizes.size()) {
    throw_bad(bytes, where, "indices of two dimensions expected, a row for each sparse dimension");
  }
  IntegerReader reader(bytes, indices, where);
  for (std::int64_t d = 0; d < indices.sizes[0]; ++d) {
    const std::int64_t size = tensor.sizes[static_cast<std::size_t>(d)];
    for (std::int64_t i = 0; i < indices.sizes[1]; ++i) require_index(bytes, where, "index", reader.next(), size);
  }
}

void check_compressed(StorageBytes& bytes, const ObjectTensor& tensor, const std::string& where) {
  const ObjectTensor &compressed = part(tensor, 0), &plain = part(tensor, 1), &values = part(tensor, 2);
  const bool by_row = tensor.layout == LayoutKind::sparse_csr || tensor.layout == LayoutKind::sparse_bsr;
  const bool blocks = tensor.layout == LayoutKind::sparse_bsr || tensor.layout == LayoutKind::sparse_bsc;
  const std::size_t n_batch = compressed.sizes.empty() ? 0 : compressed.sizes.size() - 1;
  if (compressed.sizes.empty() || plain.sizes.size() != n_batch + 1 || tensor.sizes.size() < n_batch + 2 ||
      values.sizes.size() < n_batch + (blocks ? 3 : 1)) {
    throw_bad(bytes, where, "compressed and plain indices and values of fitting dimensions expected");
  }
  std::int64_t block[2] = {1, 1};
  for (std::size_t i = 0; blocks && i < 2; ++i) block[i] = values.sizes[n_batch + 1 + i];
  if (block[0] < 1 || block[1] < 1) throw_bad(bytes, where, "blocks without elements found");
  const std::size_t row = by_row ? 0 : 1, column = 1 - row;
  const std::int64_t n_rows = tensor.sizes[n_batch + row] / block[row];
  const std::int64_t n_columns = tensor.sizes[n_batch + column] / block[column];
  const std::int64_t n_each = plain.sizes.back();
  if (compressed.sizes.back() != n_rows + 1 || values.sizes[n_batch] != n_each) {
    throw_bad(bytes, where,
              std::to_string(compressed.sizes.back()) + " compressed indices found, " + std::to_string(n_rows + 1) +
                  " expected, and as many values as plain indices");
  }
  IntegerReader bounds(bytes, compressed, where), columns(bytes, plain, where);
  const std::uint64_t n_batches = n_elements(compressed.sizes) / static_cast<std::uint64_t>(n_rows + 1);
  for (std::uint64_t b = 0; b < n_batches; ++b) {
    std::int64_t last = bounds.next();
    if (last != 0) throw_bad(bytes, where, "first compressed index " + std::to_string(last) + " found, 0 expected");
    for (std::int64_t i = 0; i < n_rows; ++i) {
      const std::int64_t bound = bounds.next();
      if (bound < last || bound - last > n_columns || bound > n_each) {
        throw_bad(bytes, where,
                  "compressed index " + std::to_string(bound) + " found behind " + std::to_string(last) + ", with " +
                      std::to_string(n_each) + " values and " + std::to_string(n_columns) + " columns");
      }
      last = bound;
    }
    if (last != n_each) {
      throw_bad(bytes, where,
                "last compressed index " + std::to_string(last) + " found, " + std::to_string(n_each) + " expected");
    }
  }
  const std::uint64_t n_plain = n_elements(plain.sizes);
  for (std::uint64_t i = 0; i < n_plain; ++i) {
    require_index(bytes, where, "plain index", columns.next(), n_columns);
  }
}

}  // namespace

void check_sparse(StorageBytes& bytes, const ObjectTensor& tensor, const std::string& where) {
  if (tensor.form == ObjectTensor::Form::sparse_coo) check_coo(bytes, tensor, where);
  if (tensor.form == ObjectTensor::Form::sparse_compressed) check_compressed(bytes, tensor, where);
}

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
  IntegerReader reader(bytes, indices, "a sparse tensor");
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

std::vector<TensorView> nested_items(StorageBytes& bytes, const ObjectTensor& tensor, const std::string& where) {
  const ObjectTensor &buffer = part(tensor, 0), &sizes = part(tensor, 1), &strides = part(tensor, 2);
  const ObjectTensor& offsets = part(tensor, 3);
  const auto whole = view_of(buffer);
  if (!whole || sizes.sizes.size() != 2 || strides.sizes != sizes.sizes || offsets.sizes.size() != 1 ||
      offsets.sizes[0] != sizes.sizes[0] || n_elements(sizes.sizes) > kMaxNestedNumbers ||
      n_elements(offsets.sizes) > kMaxNestedNumbers) {
    throw_bad(bytes, where, "a nested tensor's sizes, strides and offsets of fitting shapes expected");
  }
  const std::uint64_t n_stored = bytes.archive().storages()[whole->storage].n_bytes / detail::item_size(buffer.dtype);
  IntegerReader size_reader(bytes, sizes, where), stride_reader(bytes, strides, where), at(bytes, offsets, where);
  std::vector<TensorView> items(static_cast<std::size_t>(sizes.sizes[0]), *whole);
  for (TensorView& item : items) {
    item.sizes.clear(), item.strides.clear();
    item.offset = at.next();
    std::int64_t end = item.offset;  // of the last element
    bool fits = item.offset >= 0, empty = false;
    for (std::int64_t d = 0; d < sizes.sizes[1]; ++d) {
      const std::int64_t size = size_reader.next(), stride = stride_reader.next();
      std::int64_t span = 0;
      fits = fits && size >= 0 && stride >= 0 && !__builtin_mul_overflow(size > 0 ? size - 1 : 0, stride, &span) &&
             !__builtin_add_overflow(end, span, &end);
      empty = empty || size == 0;
      item.sizes.push_back(size), item.strides.push_back(stride);
    }
    fits = fits && (empty || static_cast<std::uint64_t>(end) < n_stored);
    if (!fits) throw_bad(bytes, where, "a part of a nested tensor found that is not inside its storage");
  }
  return items;
}

}  // namespace ckptio::cli
