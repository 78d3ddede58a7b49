// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "read_pickle_text.h"
#include "support/catch.h"
#include "support/pickle_assembler.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;
using namespace ckptio::test::pickle;

namespace {

using Integers = std::vector<std::int64_t>;
constexpr std::int64_t kHuge = std::int64_t{1} << 62;

ObjectTensor read_tensor(const std::string& body) {
  const ObjectGraph graph = read_graph(doc(body));
  REQUIRE(graph.root->is<ObjectTensor>());
  return *graph.root->get<ObjectTensor>();
}

std::string refused(const TensorParts& parts) { return error_of(doc(tensor(parts))); }

std::string geometry(const Integers& sizes, const Integers& strides, std::int64_t offset = 0) {
  TensorParts parts;
  parts.sizes = integers(sizes);
  parts.strides = integers(strides);
  parts.offset = integer(offset);
  return error_of(doc(tensor(parts)));
}

std::string longs(const std::string& key, const Integers& sizes) {
  TensorParts parts;
  std::int64_t n = 1;
  Integers strides;
  for (const std::int64_t size : sizes) n *= size;
  std::int64_t stride = n;
  for (const std::int64_t size : sizes) strides.push_back(size == 0 ? 1 : stride /= size);
  parts.storage = storage("LongStorage", key, n);
  parts.sizes = integers(sizes);
  parts.strides = integers(strides);
  return tensor(parts);
}

std::string floats(const std::string& key, const Integers& sizes) {
  TensorParts parts;
  std::int64_t n = 1;
  Integers strides;
  for (const std::int64_t size : sizes) n *= size;
  std::int64_t stride = n;
  for (const std::int64_t size : sizes) strides.push_back(stride /= size);
  parts.storage = storage("FloatStorage", key, n);
  parts.sizes = integers(sizes);
  parts.strides = integers(strides);
  return tensor(parts);
}

std::string layout(const std::string& name) { return call("torch.serialization", "_get_layout", {str(name)}); }
std::string sparse(const std::string& name, const std::vector<std::string>& parts) {
  return call("torch._utils", "_rebuild_sparse_tensor", {layout(name), tuple(parts)});
}

}  // namespace

TEST_CASE("A dense tensor is its storage, geometry and flags") {
  TensorParts parts;
  parts.offset = integer(1);
  parts.sizes = integers({3});
  parts.requires_grad = kTrue;
  const ObjectGraph graph = read_graph(doc(tensor(parts)));
  const auto& tensor = *graph.root->get<ObjectTensor>();
  CHECK(tensor.form == ObjectTensor::Form::dense);
  CHECK(tensor.dtype == DType::float32);
  CHECK(tensor.sizes == Integers{3});
  CHECK(tensor.strides == Integers{1});
  CHECK(tensor.offset == 1);
  CHECK(tensor.requires_grad);
  CHECK_FALSE(tensor.is_parameter);
  CHECK(tensor.backward_hooks == nullptr);
  REQUIRE(graph.storages.size() == 1);
  CHECK(graph.storages[0].key == "0");
  CHECK(graph.storages[0].location == "cpu");
  CHECK(graph.storages[0].n_bytes == 16);
  CHECK_FALSE(graph.storages[0].untyped);
}

TEST_CASE("The other functions that rebuild dense tensors are known") {
  CHECK(read_tensor(call("torch._utils", "_rebuild_tensor", {storage(), integer(0), integers({2}), integers({1})}))
            .sizes == Integers{2});
  TensorParts v3;
  v3.function = "_rebuild_tensor_v3";
  v3.storage = storage("UntypedStorage", "0", 16);
  v3.sizes = integers({8});
  v3.more = {global("torch", "uint16")};
  CHECK(read_tensor(tensor(v3)).dtype == DType::uint16);
  const ObjectTensor meta = read_tensor(call("torch._utils", "_rebuild_meta_tensor_no_storage",
                                             {global("torch", "float64"), integers({3}), integers({1}), kTrue}));
  CHECK(meta.form == ObjectTensor::Form::meta);
  CHECK(meta.storage == ObjectTensor::kNoStorage);
  CHECK(meta.requires_grad);
}

TEST_CASE("Conjugate and negative views keep their bits") {
  TensorParts parts;
  parts.storage = storage("ComplexFloatStorage", "0", 4);
  parts.more = {dict({str("conj"), kTrue})};
  CHECK(read_tensor(tensor(parts)).conj);
  parts.more = {dict({str("neg"), kTrue})};
  CHECK(read_tensor(tensor(parts)).neg);
  parts.more = {dict({str("evil"), kTrue})};
  CHECK_THAT(refused(parts), ContainsSubstring("'conj' or 'neg' expected"));
  parts.storage = storage();
  parts.more = {dict({str("conj"), kTrue})};
  CHECK_THAT(refused(parts), ContainsSubstring("complex type expected"));
}

TEST_CASE("Parameters, and what Python code set on tensors, are kept") {
  const ObjectTensor plain = read_tensor(call("torch._utils", "_rebuild_parameter", {tensor(), kTrue, ordered_dict()}));
  CHECK(plain.is_parameter);
  CHECK(plain.requires_grad);
  CHECK(plain.attributes == nullptr);
  const std::string state = dict({str("tag"), integer(5)});
  CHECK(read_tensor(call("torch._utils", "_rebuild_parameter_with_state", {tensor(), kFalse, ordered_dict(), state}))
            .attributes != nullptr);
  const auto with_type = [&](const std::string& type) {
    return call("torch._tensor", "_rebuild_from_type_v2",
                {global("torch._utils", "_rebuild_tensor_v2"), type,
                 tuple({storage(), integer(0), integers({4}), integers({1}), kFalse, ordered_dict()}), state});
  };
  CHECK(read_tensor(with_type(global("torch", "Tensor"))).attributes != nullptr);
  CHECK(read_tensor(with_type(global("torch.nn.parameter", "Parameter"))).is_parameter);
  CHECK(read_graph(doc(with_type(global("m", "Sub")))).root->is<ObjectOpaque>());
}

TEST_CASE("Tensors of one storage share it, and two storages have two numbers") {
  const ObjectGraph graph = read_graph(doc(list({tensor(), tensor(), longs("1", {2})})));
  const auto& items = graph.root->get<ObjectList>()->items;
  CHECK(items[0]->get<ObjectTensor>()->storage == 0);
  CHECK(items[1]->get<ObjectTensor>()->storage == 0);
  CHECK(items[2]->get<ObjectTensor>()->storage == 1);
  CHECK(graph.storages.size() == 2);
}

TEST_CASE("A storage stands by itself, too") {
  CHECK(read_graph(doc(storage())).root->get<ObjectStorage>()->storage == 0);
  CHECK(read_graph(doc(storage("UntypedStorage", "0", 7))).storages[0].n_bytes == 7);
  CHECK(read_graph(doc(storage("UntypedStorage", "0", 7))).storages[0].untyped);
}

TEST_CASE("One storage with two sizes or types is refused, unless it is empty") {
  CHECK_THAT(error_of(doc(list({storage("FloatStorage", "0", 2), storage("FloatStorage", "0", 4)}))),
             ContainsSubstring("before it had 8"));
  CHECK_THAT(error_of(doc(list({storage("FloatStorage", "0", 4), storage("LongStorage", "0", 2)}))),
             ContainsSubstring("of int64 found, before it had 16 of float32"));
  CHECK(read_graph(doc(list({storage("FloatStorage", "0", 0), storage("LongStorage", "0", 0)}))).storages.size() == 2);
}

TEST_CASE("Persistent ids of any other form are refused") {
  const std::string type = global("torch", "FloatStorage");
  const auto id = [](const std::vector<std::string>& items) { return error_of(doc(tuple(items) + "Q")); };
  CHECK_FALSE(error_of(doc(str("x") + "Q")).empty());
  CHECK_FALSE(error_of(doc(integer(5) + "Q")).empty());
  CHECK_FALSE(error_of(doc(")Q")).empty());
  CHECK_FALSE(error_of(doc("Pstorage\n")).empty());
  CHECK_FALSE(id({str("storage")}).empty());
  CHECK_FALSE(id({str("module"), type, str("0"), str("cpu"), integer(4)}).empty());
  CHECK_FALSE(id({str("storage"), str("FloatStorage"), str("0"), str("cpu"), integer(4)}).empty());
  CHECK_FALSE(
      id({str("storage"), global("torch._utils", "_rebuild_tensor_v2"), str("0"), str("cpu"), integer(4)}).empty());
  for (const std::string& key : {std::string("../x"), std::string("/etc/passwd"), std::string("0\0x", 3), std::string(),
                                 std::string(300, '9'), std::string("a\\b"), std::string("a b")}) {
    CHECK_THAT(id({str("storage"), type, str(key), str("cpu"), integer(4)}), ContainsSubstring("name of a record"));
  }
  for (const std::string& n : {integer(-4), integer(kHuge), kTrue, str("4"), number(4)}) {
    CHECK_FALSE(id({str("storage"), type, str("0"), str("cpu"), n}).empty());
  }
}

TEST_CASE("The old format's persistent ids have a sixth item") {
  const auto id = [](const std::string& view) {
    return doc(
        tuple({str("storage"), global("torch", "FloatStorage"), str("94826211350448"), str("cpu"), integer(4), view}) +
        "Q");
  };
  CHECK(read_graph(id(kNone), PickleDialect::legacy).storages[0].key == "94826211350448");
  CHECK_FALSE(error_of(id(kNone)).empty());
  CHECK_FALSE(error_of(doc(storage()), PickleDialect::legacy).empty());
}

TEST_CASE("Geometry beyond the storage is refused") {
  CHECK(geometry({4}, {1}).empty());
  CHECK(geometry({2, 2}, {2, 1}).empty());
  CHECK(geometry({1 << 30, 1 << 30}, {0, 0}).empty());  // expanded
  for (const auto& [sizes, strides, offset] : std::vector<std::tuple<Integers, Integers, std::int64_t>>{
           {{5}, {1}, 0}, {{4}, {1}, 1}, {{4}, {1}, 4}, {{2}, {4}, 0}, {{2, 2}, {3, 1}, 0}, {{}, {}, 4}}) {
    CHECK_THAT(geometry(sizes, strides, offset), ContainsSubstring("which need a storage of"));
  }
}

TEST_CASE("Geometry that overflows is refused") {
  constexpr std::int64_t kMax = INT64_MAX;
  CHECK_THAT(geometry({3}, {kMax}), ContainsSubstring("leave the range"));
  CHECK_THAT(geometry({2, 2}, {kHuge, kHuge}, kHuge), ContainsSubstring("leave the range"));
  CHECK_THAT(geometry({4}, {1}, kHuge), ContainsSubstring("leave the range"));
  CHECK_THAT(geometry({std::int64_t{1} << 32, std::int64_t{1} << 32}, {1, 1}), ContainsSubstring("too large"));
  CHECK_THAT(geometry({std::int64_t{1} << 33, std::int64_t{1} << 31}, {0, 0}), ContainsSubstring("too large"));
  CHECK_THAT(geometry({0, kHuge, kHuge}, {1, 1, 1}), ContainsSubstring("too large"));
  CHECK_THAT(geometry({kHuge}, {0}), ContainsSubstring("too large"));
}

TEST_CASE("An empty tensor may begin anywhere") {
  CHECK(geometry({0}, {1}, 100).empty());
  CHECK(geometry({0}, {kHuge}).empty());
  CHECK(geometry({3, 0, 2}, {2, 2, 1}, 4).empty());
}

TEST_CASE("Geometry of the wrong form is refused") {
  CHECK_THAT(geometry({-1}, {1}), ContainsSubstring("integers from 0 on"));
  CHECK_THAT(geometry({4}, {-1}, 3), ContainsSubstring("integers from 0 on"));
  CHECK_THAT(geometry({4}, {1}, -1), ContainsSubstring("0 or more expected"));
  CHECK_THAT(geometry({2, 2}, {1}), ContainsSubstring("strides found"));
  CHECK(geometry(Integers(64, 1), Integers(64, 1)).empty());
  CHECK_THAT(geometry(Integers(65, 1), Integers(65, 1)), ContainsSubstring("at most 64"));
  TensorParts parts;
  for (const std::string& sizes :
       {kNone, str("4"), integer(4), tuple({number(4)}), tuple({kTrue}), tuple({str("4")})}) {
    parts.sizes = sizes;
    CHECK_FALSE(refused(parts).empty());
  }
}

TEST_CASE("Arguments of the wrong kind are refused") {
  TensorParts parts;
  parts.storage = kNone;
  CHECK_THAT(refused(parts), ContainsSubstring("the storage expected"));
  parts.storage = tensor();
  CHECK_THAT(refused(parts), ContainsSubstring("the storage expected"));
  parts.storage = storage("UntypedStorage", "0", 16);
  CHECK_THAT(refused(parts), ContainsSubstring("typed"));
  parts.storage = storage("QInt8Storage", "0", 16);
  CHECK_THAT(refused(parts), ContainsSubstring("without its scale"));
  parts = {};
  parts.requires_grad = integer(1);
  CHECK_THAT(refused(parts), ContainsSubstring("requires_grad"));
  parts = {};
  parts.hooks = call("os", "system", {str("x")});
  CHECK_THAT(refused(parts), ContainsSubstring("an OrderedDict expected"));
  parts.hooks = kNone;
  CHECK(refused(parts).empty());
  CHECK_THAT(error_of(doc(call("torch._utils", "_rebuild_tensor_v2", {storage(), integer(0)}))),
             ContainsSubstring("6 to 7 expected"));
  CHECK_FALSE(error_of(doc(call("torch._utils", "_rebuild_parameter", {kNone, kTrue, ordered_dict()}))).empty());
  parts = {};
  parts.function = "_rebuild_tensor_v3";
  for (const std::string& dtype : {global("torch", "load"), str("float32"), kNone}) {
    parts.more = {dtype};
    CHECK_THAT(refused(parts), ContainsSubstring("the dtype expected"));
  }
}

TEST_CASE("A tensor of wider elements than its storage was counted in must still fit") {
  TensorParts parts;
  parts.function = "_rebuild_tensor_v3";
  parts.storage = storage("UntypedStorage", "0", 15);
  parts.sizes = integers({2});
  parts.more = {global("torch", "uint64")};
  CHECK_THAT(refused(parts), ContainsSubstring("the storage has 15 bytes"));
  parts.sizes = integers({1});
  CHECK(refused(parts).empty());
}

TEST_CASE("Sparse tensors are their parts, which fit each other") {
  const std::string indices = longs("1", {1, 4}), values = floats("0", {4});
  const ObjectTensor coo = read_tensor(sparse("torch.sparse_coo", {indices, values, integers({9}), kTrue}));
  CHECK(coo.form == ObjectTensor::Form::sparse_coo);
  CHECK(coo.is_coalesced);
  CHECK(coo.parts.size() == 2);
  CHECK(error_of(doc(sparse("torch.sparse_coo", {indices, values, integers({9})}))).empty());
  CHECK(error_of(doc(sparse("torch.sparse_coo", {indices, floats("0", {4, 3}), integers({9, 3}), kNone}))).empty());
  for (const std::string& sizes : {integers({}), integers({9, 1}), integers({-9}), integers({kHuge, kHuge}), kNone}) {
    CHECK_FALSE(error_of(doc(sparse("torch.sparse_coo", {indices, values, sizes, kTrue}))).empty());
  }
  CHECK_FALSE(error_of(doc(sparse("torch.sparse_coo", {values, values, integers({9}), kTrue}))).empty());
  CHECK_FALSE(error_of(doc(sparse("torch.sparse_coo", {longs("1", {4}), values, integers({9}), kTrue}))).empty());
  CHECK_FALSE(error_of(doc(sparse("torch.sparse_coo", {longs("1", {1, 3}), values, integers({9}), kTrue}))).empty());
  CHECK_FALSE(error_of(doc(sparse("torch.strided", {indices, values, integers({9}), kTrue}))).empty());
}

TEST_CASE("Compressed sparse tensors are their parts, which fit each other") {
  const auto compressed = [](const std::string& name, const Integers& groups, const Integers& plain,
                             const Integers& values, const Integers& sizes) {
    return error_of(doc(sparse(name, {longs("1", groups), longs("2", plain), floats("0", values), integers(sizes)})));
  };
  CHECK(compressed("torch.sparse_csr", {3}, {4}, {4}, {2, 9}).empty());
  CHECK(compressed("torch.sparse_csc", {10}, {4}, {4}, {2, 9}).empty());
  CHECK(compressed("torch.sparse_bsr", {3}, {5}, {5, 2, 3}, {4, 9}).empty());
  CHECK(compressed("torch.sparse_bsc", {4}, {5}, {5, 2, 3}, {4, 9}).empty());
  CHECK(compressed("torch.sparse_csr", {7, 3}, {7, 4}, {7, 4}, {7, 2, 9}).empty());
  CHECK(compressed("torch.sparse_csr", {3}, {4}, {4, 5}, {2, 9, 5}).empty());
  CHECK_FALSE(compressed("torch.sparse_csr", {4}, {4}, {4}, {2, 9}).empty());
  CHECK_FALSE(compressed("torch.sparse_csr", {3}, {5}, {4}, {2, 9}).empty());
  CHECK_FALSE(compressed("torch.sparse_csr", {3}, {4}, {4}, {2}).empty());
  CHECK_FALSE(compressed("torch.sparse_bsr", {3}, {5}, {5, 3, 3}, {4, 9}).empty());
  CHECK_FALSE(compressed("torch.sparse_bsr", {3}, {5}, {5}, {4, 9}).empty());
  CHECK_FALSE(compressed("torch.sparse_csr", {7, 3}, {6, 4}, {7, 4}, {7, 2, 9}).empty());
}

TEST_CASE("Quantized tensors keep their scheme") {
  const auto quantized = [](const std::vector<std::string>& quantizer, const std::string& class_name = "QInt8Storage") {
    return call("torch._utils", "_rebuild_qtensor",
                {storage(class_name, "0", 6), integer(0), integers({2, 3}), integers({3, 1}), tuple(quantizer), kFalse,
                 ordered_dict()});
  };
  const std::string per_tensor = global("torch", "per_tensor_affine"),
                    per_channel = global("torch", "per_channel_affine");
  const ObjectTensor one = read_tensor(quantized({per_tensor, number(0.5), integer(3)}));
  CHECK(one.form == ObjectTensor::Form::quantized);
  CHECK(one.scale == 0.5);
  CHECK(one.zero_point == 3);
  const ObjectTensor many = read_tensor(quantized({per_channel, floats("1", {2}), longs("2", {2}), integer(0)}));
  CHECK(many.parts.size() == 2);
  CHECK(many.qscheme == QSchemeKind::per_channel_affine);
  CHECK_FALSE(error_of(doc(quantized({per_channel, floats("1", {2}), longs("2", {2}), integer(2)}))).empty());
  CHECK_FALSE(error_of(doc(quantized({per_channel, floats("1", {3}), longs("2", {2}), integer(0)}))).empty());
  CHECK_FALSE(error_of(doc(quantized({per_tensor, number(0.5)}))).empty());
  CHECK_FALSE(error_of(doc(quantized({global("torch", "per_tensor_symmetric"), number(0.5), integer(0)}))).empty());
  CHECK_FALSE(error_of(doc(quantized({per_tensor, number(0.5), integer(3)}, "FloatStorage"))).empty());
}

TEST_CASE("Packed quantized tensors have several elements in a byte") {
  const auto packed = [](std::int64_t n_bytes) {
    return error_of(
        doc(call("torch._utils", "_rebuild_qtensor",
                 {storage("QUInt4x2Storage", "0", n_bytes), integer(0), integers({2, 4}), integers({4, 1}),
                  tuple({global("torch", "per_tensor_affine"), number(1), integer(0)}), kFalse, ordered_dict()})));
  };
  CHECK(packed(4).empty());
  CHECK_FALSE(packed(3).empty());
}

TEST_CASE("A nested tensor is a buffer and where its tensors are in it") {
  const auto nested = [](const std::string& buffer, const std::string& sizes, const std::string& offsets) {
    return call("torch._utils", "_rebuild_nested_tensor", {buffer, sizes, sizes, offsets});
  };
  const ObjectTensor tensor = read_tensor(nested(floats("0", {5}), longs("1", {2, 1}), longs("2", {2})));
  CHECK(tensor.form == ObjectTensor::Form::nested);
  CHECK(tensor.parts.size() == 4);
  CHECK_FALSE(error_of(doc(nested(floats("0", {5, 1}), longs("1", {2, 1}), longs("2", {2})))).empty());
  CHECK_FALSE(error_of(doc(nested(floats("0", {5}), longs("1", {2, 1}), longs("2", {3})))).empty());
  CHECK_FALSE(error_of(doc(nested(floats("0", {5}), floats("1", {2, 1}), longs("2", {2})))).empty());
}
