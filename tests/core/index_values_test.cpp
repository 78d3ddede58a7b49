// SPDX-License-Identifier: Apache-2.0
// Indices that would lead out of a tensor are refused, however they are stored.
#include "codec/index_values.h"

#include <string>

#include "ckptio/error.h"
#include "codec/pickle_writer.h"
#include "support/catch.h"
#include "support/raw_zip.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

using Numbers = std::vector<std::int64_t>;

// A file of tensors of int64, each with a storage of its own, and one sparse or nested tensor made of them.
class IndexFile {
 public:
  std::size_t item_bytes = 8;
  bool big_endian = false;

  Object* integers(const Numbers& values, const Numbers& sizes, Numbers strides = {}) {
    ObjectTensor tensor;
    tensor.dtype = item_bytes == 8 ? DType::int64 : DType::int32;
    if (strides.empty()) {
      strides.resize(sizes.size());
      std::int64_t stride = 1;
      for (std::size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) strides[i] = stride;
    }
    std::string bytes;
    for (const std::int64_t value : values) {
      std::string number = le(static_cast<std::uint64_t>(value), static_cast<int>(item_bytes));
      bytes += big_endian ? std::string(number.rbegin(), number.rend()) : number;
    }
    tensor.storage = add(tensor.dtype, bytes);
    tensor.sizes = sizes;
    tensor.strides = strides;
    return graph_.make(std::move(tensor));
  }
  Object* values(const Numbers& sizes) {
    std::int64_t n = 1;
    for (const std::int64_t size : sizes) n *= size;
    ObjectTensor tensor;
    tensor.storage = add(DType::float32, std::string(static_cast<std::size_t>(n) * 4, '\0'));
    tensor.sizes = sizes;
    tensor.strides.resize(sizes.size());
    std::int64_t stride = 1;
    for (std::size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) tensor.strides[i] = stride;
    return graph_.make(std::move(tensor));
  }
  void set_root(ObjectTensor::Form form, LayoutKind layout, const Numbers& sizes, std::vector<Object*> parts) {
    ObjectTensor tensor;
    tensor.form = form, tensor.layout = layout, tensor.sizes = sizes, tensor.parts = std::move(parts);
    graph_.root = graph_.make(std::move(tensor));
  }
  void check() {
    const WrittenPickle pickle = write_pickle(graph_, *graph_.root);
    RawZip zip;
    zip.add("a/data.pkl", pickle.bytes);
    zip.add("a/byteorder", big_endian ? "big" : "little");
    for (std::size_t i = 0; i < pickle.storage_order.size(); ++i) {
      const std::string& content = contents_[pickle.storage_order[i]];
      zip.add("a/data/" + std::to_string(i), content).has_descriptor = !content.empty();
    }
    zip.add("a/version", "3\n");
    const std::string bytes = zip.bytes();
    check_index_values(Archive::open(memory_source("x.pt", bytes.data(), bytes.size())));
  }

 private:
  std::uint32_t add(DType dtype, std::string bytes) {
    graph_.storages.push_back({"", "cpu", dtype, false, bytes.size()});
    contents_.push_back(std::move(bytes));
    return static_cast<std::uint32_t>(contents_.size() - 1);
  }
  ObjectGraph graph_;
  std::vector<std::string> contents_;
};

void check_coo(const Numbers& indices, const Numbers& index_sizes, const Numbers& strides, const Numbers& sizes,
               bool big_endian = false) {
  IndexFile file;
  file.big_endian = big_endian;
  Object* object = file.integers(indices, index_sizes, strides);
  file.set_root(ObjectTensor::Form::sparse_coo, LayoutKind::sparse_coo, sizes, {object, file.values({index_sizes[1]})});
  file.check();
}

void check_compressed(LayoutKind layout, const Numbers& compressed, const Numbers& plain, const Numbers& sizes,
                      const Numbers& block = {}, std::size_t item_bytes = 8) {
  IndexFile file;
  file.item_bytes = item_bytes;
  Numbers value_sizes = {static_cast<std::int64_t>(plain.size())};
  value_sizes.insert(value_sizes.end(), block.begin(), block.end());
  file.set_root(ObjectTensor::Form::sparse_compressed, layout, sizes,
                {file.integers(compressed, {static_cast<std::int64_t>(compressed.size())}),
                 file.integers(plain, {static_cast<std::int64_t>(plain.size())}), file.values(value_sizes)});
  file.check();
}

void check_nested(std::int64_t n_buffer, const Numbers& sizes, const Numbers& strides, const Numbers& offsets) {
  IndexFile file;
  const auto n = static_cast<std::int64_t>(offsets.size()), dims = static_cast<std::int64_t>(sizes.size()) / n;
  file.set_root(ObjectTensor::Form::nested, LayoutKind::strided, {},
                {file.values({n_buffer}), file.integers(sizes, {n, dims}), file.integers(strides, {n, dims}),
                 file.integers(offsets, {n})});
  file.check();
}

}  // namespace

TEST_CASE("IndexValues.OfSparseCooTensorsAreInsideTheTensor", "[sparse]") {
  const bool big_endian = GENERATE(false, true);
  const auto check = [&](const Numbers& indices) { check_coo(indices, {2, 3}, {}, {4, 5}, big_endian); };
  CHECK_NOTHROW(check({0, 3, 3, 4, 0, 4}));
  CHECK_THROWS_AS(check({0, 4, 3, 4, 0, 4}), CorruptError);
  CHECK_THROWS_AS(check({0, 3, 3, 4, 0, 5}), CorruptError);
  CHECK_THROWS_AS(check({0, 3, 3, -1, 0, 4}), CorruptError);
  CHECK_THROWS_AS(check({std::int64_t{1} << 40, 3, 3, 0, 0, 4}), CorruptError);
}

TEST_CASE("IndexValues.AreCheckedInTheTensorsOwnStrides", "[sparse]") {
  // [[0, 1, 2], [40, 41, 42]] as the transpose of what is stored.
  CHECK_NOTHROW(check_coo({0, 40, 1, 41, 2, 42}, {2, 3}, {1, 2}, {3, 43}));
  CHECK_THROWS_AS(check_coo({0, 40, 1, 41, 2, 42}, {2, 3}, {1, 2}, {43, 3}), CorruptError);
  CHECK_NOTHROW(check_coo({1}, {2, 3}, {0, 0}, {2, 2}));
  CHECK_NOTHROW(check_coo({7}, {1, 1}, {std::numeric_limits<std::int64_t>::max(), 1}, {8}));
  CHECK_NOTHROW(check_coo({}, {2, 0}, {}, {0, 0}));
}

TEST_CASE("IndexValues.OfManyTensorsThatShareFewNumbersAreNotCheckedForEver", "[sparse]") {
  const std::int64_t n = std::int64_t{1} << 40;
  IndexFile file;
  Object* values = file.values({1});
  values->get<ObjectTensor>()->sizes = {n};
  values->get<ObjectTensor>()->strides = {0};
  Object* indices = file.integers({1}, {2, n}, {0, 0});
  file.set_root(ObjectTensor::Form::sparse_coo, LayoutKind::sparse_coo, {2, 2}, {indices, values});
  CHECK_THROWS_AS(file.check(), UnsupportedError);
}

TEST_CASE("IndexValues.BeyondTheFirstWindowAreChecked", "[sparse]") {
  Numbers indices(20000, 3);
  CHECK_NOTHROW(check_coo(indices, {2, 10000}, {}, {4, 4}));
  indices.back() = 4;
  CHECK_THROWS_AS(check_coo(indices, {2, 10000}, {}, {4, 4}), CorruptError);
}

TEST_CASE("IndexValues.OfCompressedTensorsAreInsideTheTensor", "[sparse]") {
  const std::size_t item = GENERATE(4, 8);
  const auto csr = [&](const Numbers& rows, const Numbers& columns) {
    check_compressed(LayoutKind::sparse_csr, rows, columns, {2, 4}, {}, item);
  };
  CHECK_NOTHROW(csr({0, 2, 4}, {0, 3, 1, 2}));
  CHECK_NOTHROW(csr({0, 0, 4}, {0, 1, 2, 3}));
  CHECK_THROWS_AS(csr({0, 99, 4}, {0, 3, 1, 2}), CorruptError);
  CHECK_THROWS_AS(csr({1, 2, 4}, {0, 3, 1, 2}), CorruptError);
  CHECK_THROWS_AS(csr({0, 2, 3}, {0, 3, 1, 2}), CorruptError);
  CHECK_THROWS_AS(csr({0, -1, 4}, {0, 3, 1, 2}), CorruptError);
  CHECK_THROWS_AS(csr({0, 0, 5}, {0, 3, 1, 2, 2}), CorruptError);
  CHECK_THROWS_AS(csr({0, 2, 4}, {0, 4, 1, 2}), CorruptError);
  CHECK_THROWS_AS(csr({0, 2, 4}, {0, -1, 1, 2}), CorruptError);
  // Columns are compressed: the plain indices are rows.
  CHECK_NOTHROW(check_compressed(LayoutKind::sparse_csc, {0, 1, 2, 2, 2}, {0, 1}, {2, 4}, {}, item));
  CHECK_THROWS_AS(check_compressed(LayoutKind::sparse_csc, {0, 1, 2, 2, 2}, {0, 2}, {2, 4}, {}, item), CorruptError);
  // Blocks of 2 rows and 3 columns: 2 x 3 of them.
  CHECK_NOTHROW(check_compressed(LayoutKind::sparse_bsr, {0, 1, 2}, {0, 2}, {4, 9}, {2, 3}, item));
  CHECK_THROWS_AS(check_compressed(LayoutKind::sparse_bsr, {0, 1, 2}, {0, 3}, {4, 9}, {2, 3}, item), CorruptError);
  CHECK_NOTHROW(check_compressed(LayoutKind::sparse_bsc, {0, 1, 2, 2}, {0, 1}, {4, 9}, {2, 3}, item));
  CHECK_THROWS_AS(check_compressed(LayoutKind::sparse_bsc, {0, 1, 2, 2}, {0, 2}, {4, 9}, {2, 3}, item), CorruptError);
}

TEST_CASE("IndexValues.OfNestedTensorsAreInsideTheBuffer", "[sparse]") {
  CHECK_NOTHROW(check_nested(8, {1, 2, 3, 2}, {2, 1, 2, 1}, {0, 2}));
  CHECK_NOTHROW(check_nested(8, {0, 2, 3, 2}, {2, 1, 2, 1}, {8, 2}));
  CHECK_THROWS_AS(check_nested(8, {1, 2, 3, 2}, {2, 1, 2, 1}, {0, 3}), CorruptError);
  CHECK_THROWS_AS(check_nested(8, {1, 2, 3, 2}, {2, 1, 2, 1}, {0, -1}), CorruptError);
  CHECK_THROWS_AS(check_nested(8, {1, 2, 4, 2}, {2, 1, 2, 1}, {0, 2}), CorruptError);
  CHECK_THROWS_AS(check_nested(8, {1, 2, -3, 2}, {2, 1, 2, 1}, {0, 2}), CorruptError);
  CHECK_THROWS_AS(check_nested(8, {1, 2, 3, 2}, {2, 1, -2, 1}, {0, 2}), CorruptError);
  const std::int64_t large = std::numeric_limits<std::int64_t>::max();
  CHECK_THROWS_AS(check_nested(8, {1, 2, 3, 2}, {2, 1, large, 1}, {0, 2}), CorruptError);
  CHECK_THROWS_AS(check_nested(8, {0, large, large, 2}, {0, 0, 0, 0}, {0, 0}), CorruptError);
}
