// SPDX-License-Identifier: Apache-2.0
#include "cli/tensor_bytes.h"

#include <algorithm>
#include <cstring>

namespace ckptio::cli {
namespace {

using detail::DType;

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

// Of a tensor whose rows lie scattered in a storage that is not in memory: the larger the block, the longer the runs
// that are read at once.
constexpr std::size_t kBlockBytes = std::size_t{16} << 20;

bool is_complex(DType dtype) {
  return dtype == DType::complex32 || dtype == DType::complex64 || dtype == DType::complex128;
}

bool is_floating(DType dtype) {
  return dtype == DType::float16 || dtype == DType::bfloat16 || dtype == DType::float32 || dtype == DType::float64;
}

// Elements per byte of the quantized types that pack several.
std::uint64_t packing(DType dtype) { return dtype == DType::quint4x2 ? 2 : dtype == DType::quint2x4 ? 4 : 1; }

// Flips the sign of every `step`-th value of `width` bytes, from the byte `begin` on. Little-endian.
void flip_signs(std::vector<unsigned char>& bytes, std::size_t n_bytes, std::size_t begin, std::size_t width,
                std::size_t step) {
  for (std::size_t i = begin; i + width <= n_bytes; i += step) bytes[i + width - 1] ^= 0x80;
}

void negate_integers(std::vector<unsigned char>& bytes, std::size_t n_bytes, std::size_t width) {
  for (std::size_t i = 0; i + width <= n_bytes; i += width) {
    unsigned carry = 1;
    for (std::size_t j = i; j < i + width; ++j) {
      carry += static_cast<unsigned>(bytes[j] ^ 0xFF);
      bytes[j] = static_cast<unsigned char>(carry);
      carry >>= 8;
    }
  }
}

// The same elements in the same order with as few dimensions as possible, at least one.
void merge_dimensions(TensorView& view) {
  detail::Dims sizes, strides;
  for (std::size_t i = 0; i < view.sizes.size(); ++i) {
    if (view.sizes[i] == 1) continue;
    std::int64_t span = 0;
    if (!sizes.empty() && !__builtin_mul_overflow(view.strides[i], view.sizes[i], &span) && strides.back() == span) {
      sizes.back() *= view.sizes[i];
      strides.back() = view.strides[i];
    } else {
      sizes.push_back(view.sizes[i]);
      strides.push_back(view.strides[i]);
    }
  }
  if (sizes.empty()) sizes = strides = {1};
  view.sizes = std::move(sizes);
  view.strides = std::move(strides);
}

bool is_contiguous(const detail::ObjectTensor& tensor) {
  std::int64_t expected = 1;
  for (std::size_t i = tensor.sizes.size(); i-- > 0;) {
    if (tensor.sizes[i] == 0) return true;
    if (tensor.sizes[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.sizes[i];
  }
  return true;
}

}  // namespace

std::uint64_t n_elements(std::span<const std::int64_t> sizes) {
  std::uint64_t n = 1;
  for (const std::int64_t size : sizes) {
    if (size == 0) return 0;
    if (__builtin_mul_overflow(n, static_cast<std::uint64_t>(size), &n)) return ~std::uint64_t{0};
  }
  return n;
}

std::uint64_t n_bytes_of(const TensorView& view) {
  std::uint64_t n_bytes = 0;
  if (__builtin_mul_overflow(n_elements(view.sizes), detail::item_size(view.dtype), &n_bytes)) return ~std::uint64_t{0};
  return n_bytes;
}

std::optional<TensorView> view_of(const detail::ObjectTensor& tensor) {
  using Form = detail::ObjectTensor::Form;
  if ((tensor.form != Form::dense && tensor.form != Form::quantized) ||
      tensor.storage == detail::ObjectTensor::kNoStorage) {
    return std::nullopt;
  }
  TensorView view{tensor.dtype, tensor.sizes, tensor.strides, tensor.offset, tensor.storage, tensor.conj, tensor.neg};
  if (const std::uint64_t n_packed = packing(tensor.dtype); n_packed > 1) {
    if (!is_contiguous(tensor) || static_cast<std::uint64_t>(tensor.offset) % n_packed != 0) return std::nullopt;
    const std::uint64_t n_bytes = (n_elements(tensor.sizes) + n_packed - 1) / n_packed;
    view.sizes = {static_cast<std::int64_t>(n_bytes)};
    view.strides = {1};
    view.offset /= static_cast<std::int64_t>(n_packed);
  }
  return view;
}

TensorReader::TensorReader(StorageBytes& bytes, TensorView view)
    : bytes_(bytes),
      view_(std::move(view)),
      item_size_(detail::item_size(view_.dtype)),
      n_left_(n_elements(view_.sizes)) {
  merge_dimensions(view_);
  at_.assign(view_.sizes.size(), 0);
  by_blocks_ = n_left_ > 0 && view_.strides.back() != 1 && bytes_.held(view_.storage) == nullptr;
  const std::size_t n_bytes = by_blocks_ ? kBlockBytes : kPieceBytes;
  buffer_.resize(std::min<std::uint64_t>(n_left_, n_bytes / item_size_) * item_size_);
}

// Copies the next `n_wanted` elements, row by row.
void TensorReader::gather_rows(unsigned char* destination, std::size_t n_wanted) {
  const std::size_t last = view_.sizes.size() - 1;
  const auto stride = static_cast<std::uint64_t>(view_.strides[last]);
  const unsigned char* const held = bytes_.held(view_.storage);
  while (n_wanted > 0) {
    auto offset = static_cast<std::uint64_t>(view_.offset);
    for (std::size_t i = 0; i <= last; ++i) {
      offset += static_cast<std::uint64_t>(at_[i]) * static_cast<std::uint64_t>(view_.strides[i]);
    }
    const auto n_row = std::min<std::uint64_t>(n_wanted, static_cast<std::uint64_t>(view_.sizes[last] - at_[last]));
    if (stride == 1) {
      bytes_.read(view_.storage, offset * item_size_, destination, n_row * item_size_);
    } else {
      for (std::uint64_t i = 0; i < n_row; ++i) {
        std::memcpy(destination + i * item_size_, held + (offset + i * stride) * item_size_, item_size_);
      }
    }
    destination += n_row * item_size_;
    n_wanted -= n_row;
    at_[last] += static_cast<std::int64_t>(n_row);
    for (std::size_t i = last; i > 0 && at_[i] == view_.sizes[i]; --i) at_[i] = 0, ++at_[i - 1];
  }
}

// Fills the buffer with as many whole slices as it holds, and returns how many elements they have. Within them it goes
// in the order of the storage, so that what lies together there is read at once.
std::size_t TensorReader::gather_block() {
  struct Dimension {
    std::uint64_t size, stride, step;  // the strides in the storage and in the buffer
  };
  std::vector<Dimension> block;
  const std::uint64_t n_room = buffer_.size() / item_size_;
  auto offset = static_cast<std::uint64_t>(view_.offset);
  std::uint64_t n_block = 1;
  std::size_t first = view_.sizes.size();  // of the dimensions within the block, the outermost perhaps in part
  while (first > 0) {
    const auto size = static_cast<std::uint64_t>(view_.sizes[first - 1]);
    const auto begin = static_cast<std::uint64_t>(at_[first - 1]);
    const std::uint64_t n_now = std::min(size - begin, n_room / n_block);
    --first;
    block.push_back({n_now, static_cast<std::uint64_t>(view_.strides[first]), n_block});
    n_block *= n_now;
    if (n_now < size) break;
  }
  for (std::size_t i = 0; i < at_.size(); ++i) {
    offset += static_cast<std::uint64_t>(at_[i]) * static_cast<std::uint64_t>(view_.strides[i]);
  }
  at_[first] += static_cast<std::int64_t>(block.back().size);
  for (std::size_t i = first; i > 0 && at_[i] == view_.sizes[i]; --i) at_[i] = 0, ++at_[i - 1];

  std::sort(block.begin(), block.end(), [](const auto& a, const auto& b) { return a.stride < b.stride; });
  const Dimension inner = block.front();
  run_.resize(inner.stride == 1 ? inner.size * item_size_ : item_size_);
  const std::uint64_t n_run = run_.size() / item_size_;
  std::vector<std::uint64_t> index(block.size(), 0);
  while (true) {
    std::uint64_t from = offset, to = 0;
    for (std::size_t i = 0; i < block.size(); ++i) from += index[i] * block[i].stride, to += index[i] * block[i].step;
    bytes_.read(view_.storage, from * item_size_, run_.data(), run_.size());
    for (std::uint64_t i = 0; i < n_run; ++i) {
      std::memcpy(&buffer_[(to + i * inner.step) * item_size_], &run_[i * item_size_], item_size_);
    }
    index[0] += n_run;
    std::size_t i = 0;
    for (; i + 1 < block.size() && index[i] == block[i].size; ++i) index[i] = 0, ++index[i + 1];
    if (index.back() == block.back().size) return n_block;
  }
}

void TensorReader::resolve(std::size_t n_bytes) {
  const std::size_t half = item_size_ / 2;
  if (is_complex(view_.dtype)) {
    if (view_.conj != view_.neg) flip_signs(buffer_, n_bytes, half, half, item_size_);
    if (view_.neg) flip_signs(buffer_, n_bytes, 0, half, item_size_);
  } else if (view_.neg && is_floating(view_.dtype)) {
    flip_signs(buffer_, n_bytes, 0, item_size_, item_size_);
  } else if (view_.neg) {
    negate_integers(buffer_, n_bytes, item_size_);
  }
}

TensorReader::Piece TensorReader::next() {
  std::size_t n_now = std::min<std::uint64_t>(n_left_, buffer_.size() / item_size_);
  if (n_now == 0) return {};
  if (by_blocks_) {
    n_now = gather_block();
  } else {
    gather_rows(buffer_.data(), n_now);
  }
  n_left_ -= n_now;
  resolve(n_now * item_size_);
  return {buffer_.data(), n_now * item_size_};
}

std::vector<unsigned char> bytes_of(StorageBytes& bytes, const TensorView& view) {
  std::vector<unsigned char> all;
  TensorReader reader(bytes, view);
  for (auto piece = reader.next(); piece.n_bytes > 0; piece = reader.next()) {
    all.insert(all.end(), piece.data, piece.data + piece.n_bytes);
  }
  return all;
}

}  // namespace ckptio::cli
