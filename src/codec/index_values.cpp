// SPDX-License-Identifier: Apache-2.0
// What is demanded is what torch._validate_sparse_coo_tensor_args, torch._validate_sparse_compressed_tensor_args and
// torch._nested_view_from_buffer (2.13) need to stay within the tensor, not all that they ask: order and uniqueness of
// indices are left to them.
#include "codec/index_values.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "ckptio/error.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

// Read at once: most index tensors fit.
constexpr std::uint64_t kWindowBytes = std::uint64_t{64} << 10;

// A deflated storage cannot be read in parts, so it is held.
constexpr std::uint64_t kMaxDeflatedBytes = std::uint64_t{256} << 20;

// Index tensors may share a storage, overlap or be expanded; a file made for the purpose could have billions of numbers
// to check in a few bytes. So many times the file's storages, and what small files need, is enough for real ones.
constexpr std::uint64_t kMaxRepeats = 16, kSmallWork = std::uint64_t{1} << 20;

// Counts what was done against what the file can ask for.
class Work {
 public:
  explicit Work(const Archive& archive) : archive_(archive), n_allowed_(kSmallWork) {
    for (const StorageRecord& storage : archive.storages()) n_allowed_ += kMaxRepeats * (storage.n_bytes / 4);
  }
  void add(std::uint64_t n) {
    if (n <= n_allowed_) {
      n_allowed_ -= n;
      return;
    }
    throw UnsupportedError("cannot read '" + archive_.source().name + "': its sparse and nested tensors have more " +
                           "indices than " + std::to_string(kMaxRepeats) + " times its storages: not checked");
  }

 private:
  const Archive& archive_;
  std::uint64_t n_allowed_;
};

// The elements of a dense tensor of int64 or int32, in logical order, through a window on the file.
class Indices {
 public:
  Indices(const Archive& archive, const Object& object, const char* what, Work& work)
      : archive_(archive),
        tensor_(*object.get<ObjectTensor>()),
        record_(archive.storages()[tensor_.storage]),
        what_(what),
        n_item_(item_size(tensor_.dtype)),
        counter_(tensor_.sizes.size(), 0),
        position_(static_cast<std::uint64_t>(tensor_.offset)) {
    n_ = 1;
    for (const std::int64_t size : tensor_.sizes) n_ *= static_cast<std::uint64_t>(size);
    work.add(n_);
    if (record_.is_stored || n_ == 0) return;
    if (record_.n_bytes > kMaxDeflatedBytes) {
      throw UnsupportedError("cannot read '" + archive.source().name + "': record " + quote_name(record_.name) +
                             ": indices in a compressed storage of " + std::to_string(record_.n_bytes) +
                             " bytes found, at most " + std::to_string(kMaxDeflatedBytes) + " are read");
    }
    work.add(record_.n_bytes / 4);
    window_.resize(record_.n_bytes);
    archive.read_storage(tensor_.storage, window_.data());
  }

  std::uint64_t n() const { return n_; }
  const Dims& sizes() const { return tensor_.sizes; }

  // Requires: called at most n() times.
  std::int64_t next() {
    last_ = position_;
    const std::int64_t value = at(position_ * n_item_);
    for (std::size_t dim = counter_.size(); dim-- > 0;) {
      const auto stride = static_cast<std::uint64_t>(tensor_.strides[dim]);
      position_ += stride;
      if (++counter_[dim] < tensor_.sizes[dim]) break;
      position_ -= stride * static_cast<std::uint64_t>(tensor_.sizes[dim]);
      counter_[dim] = 0;
    }
    return value;
  }

  // About the number that next() gave last.
  [[noreturn]] void fail(std::int64_t found, const std::string& expected) const {
    const std::uint64_t offset = last_ * n_item_;
    throw_corrupt(archive_.source(), "record " + quote_name(record_.name), record_.data_offset + offset,
                  std::string(what_) + " " + std::to_string(found) + " found, " + expected + " expected");
  }
  void require(bool is_right, std::int64_t found, const std::string& expected) const {
    if (!is_right) fail(found, expected);
  }

 private:
  std::int64_t at(std::uint64_t byte) {
    if (byte < begin_ || byte + n_item_ > begin_ + window_.size()) {
      begin_ = byte / n_item_ * n_item_;
      window_.resize(std::min(kWindowBytes, record_.n_bytes - begin_));
      archive_.source().read_at(record_.data_offset + begin_, window_.data(), window_.size());
    }
    unsigned char bytes[8];
    std::memcpy(bytes, window_.data() + (byte - begin_), n_item_);
    // A deflated storage came through read_storage, in this machine's order.
    if (record_.swap_bytes && record_.is_stored) std::reverse(bytes, bytes + n_item_);
    if (n_item_ == 4) {
      std::int32_t value = 0;
      std::memcpy(&value, bytes, sizeof value);
      return value;
    }
    std::int64_t value = 0;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }

  const Archive& archive_;
  const ObjectTensor& tensor_;
  const StorageRecord& record_;
  const char* what_;
  std::uint64_t n_item_;
  std::uint64_t n_ = 0;
  std::vector<std::int64_t> counter_;
  std::uint64_t position_;  // of the next element, in the storage; wraps around within a row
  std::uint64_t last_ = 0;
  std::vector<unsigned char> window_;
  std::uint64_t begin_ = 0;  // of the window, in the storage
};

std::string from_0_to(std::int64_t end) {
  return end > 0 ? "one from 0 to " + std::to_string(end - 1) : "none (the dimension has no elements)";
}

// indices [sparse dimensions, n].
void check_coo(const Archive& archive, const ObjectTensor& tensor, Work& work) {
  Indices indices(archive, *tensor.parts[0], "a sparse index", work);
  if (indices.n() == 0) return;
  const std::int64_t n_each = indices.sizes()[1];
  for (std::size_t dim = 0; dim < static_cast<std::size_t>(indices.sizes()[0]); ++dim) {
    for (std::int64_t i = 0; i < n_each; ++i) {
      const std::int64_t index = indices.next();
      if (index < 0 || index >= tensor.sizes[dim]) indices.fail(index, from_0_to(tensor.sizes[dim]));
    }
  }
}

// How many places the plain indices choose from.
std::int64_t n_plain(const ObjectTensor& tensor, std::size_t n_batch) {
  const bool is_block = tensor.layout == LayoutKind::sparse_bsr || tensor.layout == LayoutKind::sparse_bsc;
  const bool by_row = tensor.layout == LayoutKind::sparse_csr || tensor.layout == LayoutKind::sparse_bsr;
  const std::size_t dim = n_batch + (by_row ? 1 : 0);
  const Dims& values = tensor.parts[2]->get<ObjectTensor>()->sizes;
  return tensor.sizes[dim] / (is_block ? values[dim + 1] : 1);
}

// compressed [batch ..., groups + 1]: where in plain [batch ..., n] each row (or column) begins.
void check_compressed(const Archive& archive, const ObjectTensor& tensor, Work& work) {
  Indices compressed(archive, *tensor.parts[0], "a compressed sparse index", work);
  Indices plain(archive, *tensor.parts[1], "a plain sparse index", work);
  const std::int64_t n = plain.sizes().back(), n_groups = compressed.sizes().back() - 1;
  const std::int64_t n_places = n_plain(tensor, compressed.sizes().size() - 1);
  if (compressed.n() > 0) {
    for (std::uint64_t batch = compressed.n() / static_cast<std::uint64_t>(n_groups + 1); batch-- > 0;) {
      std::int64_t before = compressed.next();
      compressed.require(before == 0, before, "0 as the first one");
      for (std::int64_t group = 0; group < n_groups; ++group) {
        const std::int64_t index = compressed.next();
        compressed.require(index >= before && index <= n && index - before <= n_places, index,
                           "one from " + std::to_string(before) + " to " + std::to_string(n) + ", at most " +
                               std::to_string(n_places) + " more than the one before");
        before = index;
      }
      compressed.require(before == n, before, std::to_string(n) + " as the last one");
    }
  }
  for (std::uint64_t i = 0; i < plain.n(); ++i) {
    const std::int64_t index = plain.next();
    if (index < 0 || index >= n_places) plain.fail(index, from_0_to(n_places));
  }
}

// buffer [n]; sizes and strides [tensors, dims] and offsets [tensors] of views of it.
void check_nested(const Archive& archive, const ObjectTensor& tensor, Work& work) {
  const std::int64_t n_buffer = tensor.parts[0]->get<ObjectTensor>()->sizes[0];
  Indices sizes(archive, *tensor.parts[1], "a size in a nested tensor", work);
  Indices strides(archive, *tensor.parts[2], "a stride in a nested tensor", work);
  Indices offsets(archive, *tensor.parts[3], "an offset in a nested tensor", work);
  const std::size_t n_dims = sizes.sizes().size() == 2 ? static_cast<std::size_t>(sizes.sizes()[1]) : 0;
  for (std::uint64_t i = 0; i < offsets.n(); ++i) {
    const std::int64_t offset = offsets.next();
    offsets.require(offset >= 0 && offset <= n_buffer, offset, "one from 0 to " + std::to_string(n_buffer));
    std::int64_t last = offset, product = 1;
    bool is_empty = false, overflows = false;
    for (std::size_t dim = 0; dim < n_dims; ++dim) {
      const std::int64_t size = sizes.next(), stride = strides.next();
      sizes.require(size >= 0, size, "0 or more");
      strides.require(stride >= 0, stride, "0 or more");
      std::int64_t extent = 0;
      is_empty |= size == 0;
      overflows |= __builtin_mul_overflow(size == 0 ? 0 : size - 1, stride, &extent) ||
                   __builtin_add_overflow(last, extent, &last) ||
                   __builtin_mul_overflow(product, std::max<std::int64_t>(size, 1), &product);
    }
    offsets.require(!overflows && (is_empty || last < n_buffer), offset,
                    "with its sizes and strides a view of the buffer's " + std::to_string(n_buffer) + " elements");
  }
}

}  // namespace

void check_index_values(const Archive& archive) {
  Work work(archive);
  for (const Object& object : archive.graph().objects) {
    const auto* tensor = object.get<ObjectTensor>();
    if (tensor == nullptr) continue;
    switch (tensor->form) {
      case ObjectTensor::Form::sparse_coo:
        check_coo(archive, *tensor, work);
        break;
      case ObjectTensor::Form::sparse_compressed:
        check_compressed(archive, *tensor, work);
        break;
      case ObjectTensor::Form::nested:
        check_nested(archive, *tensor, work);
        break;
      default:
        break;
    }
  }
}

}  // namespace ckptio::detail
