// SPDX-License-Identifier: Apache-2.0
#include "codec/checkpoint_encoding.h"

#include <string>

#include "ckptio/error.h"
#include "read_pickle_text.h"
#include "support/catch.h"
#include "support/libtorch_archive.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;
using namespace ckptio::test::pickle;

namespace {

// An archive of TorchCheckpointIO whose checkpoint is {"x": value}; of eight floats in storage '0'.
LibTorchArchive archive_of(const std::string& value, const std::vector<std::string>& more = {},
                           const std::string& version = integer(2)) {
  std::vector<std::string> attributes{str("ckptio_format_version"), version, str("checkpoint"),
                                      dict({str("x"), value})};
  attributes.insert(attributes.end(), more.begin(), more.end());
  LibTorchArchive archive;
  archive.data = object("Module", attributes);
  archive.code = {{"__torch__.py", "class Module(Module):\n  checkpoint : Dict[str, Any]\n"}};
  if (value.find("Storage") != std::string::npos) archive.storages = {{"data/0", std::string(32, '\0')}};
  return archive;
}

std::string tagged(const std::string& kind, const std::vector<std::string>& fields) {
  return "(" + str("ckptio." + kind) + joined(fields) + "t";
}

std::string checkpoint_of(const LibTorchArchive& source) {
  const Archive archive = source.open();
  CHECK(archive.is_checkpoint());
  return GraphText{}(archive.root());
}

// "{'x': ...}" without what is around the value.
std::string decoded(const std::string& value) {
  const std::string text = checkpoint_of(archive_of(value));
  return text.substr(6, text.size() - 7);
}

// The message of the CorruptError, "" where there is none.
std::string refused(const std::string& value) {
  try {
    archive_of(value).open();
  } catch (const CorruptError& error) {
    return error.what();
  }
  return "";
}

std::string eight_floats() { return floats("0", 8); }

struct ViewFields {
  std::string base = eight_floats();
  std::string dtype = str("int16");
  std::string sizes = list({integer(2), integer(3)});
  std::string strides = list({integer(1), integer(2)});
  std::string offset = integer(4);
  std::string requires_grad = kFalse;
};
std::string view(const ViewFields& f = {}) {
  return tagged("view", {f.base, f.dtype, f.sizes, f.strides, f.offset, f.requires_grad});
}

const Object& value_of(const Archive& archive) { return *archive.root().get<ObjectDict>()->items.at(0).second; }

}  // namespace

TEST_CASE("An archive of a Checkpoint is the Checkpoint in it, any other is as it was", "[libtorch]") {
  CHECK(checkpoint_of(archive_of(list({integer(1), kNone, tuple({str("a"), kTrue})}))) ==
        "{'x': [1, None, ('a', True)]}");
  CHECK(checkpoint_of(archive_of(integer(1), {}, integer(1))) == "{'x': 1}");
  LibTorchArchive other = archive_of(integer(1));
  other.data = object("Module", {str("checkpoint"), tagged("bytes", {str("a")})});
  const Archive archive = other.open();
  CHECK_FALSE(archive.is_checkpoint());
  CHECK(GraphText{}(archive.root()) == "{'checkpoint': ('ckptio.bytes', 'a')}");
}

TEST_CASE("What TorchScript lacks is decoded to what it was", "[libtorch]") {
  CHECK(decoded(tagged("bytes", {str("a\xff")})) == "b'a\\xff'");
  CHECK(decoded(tagged("bytearray", {str("ab")})) == "bytearray'ab'");
  CHECK(decoded(tagged("int", {str(std::string(8, '\xff') + '\1')})) == "bigint.255.255.255.255.255.255.255.255.1");
  CHECK(decoded(tagged("dtype", {str("bfloat16")})) == "torch.bfloat16");
  CHECK(decoded(tagged("device", {str("cuda:1")})) == "device(cuda:1)");
  const Archive layout = archive_of(tagged("layout", {str("sparse_csr")})).open();
  CHECK(*value_of(layout).get<LayoutKind>() == LayoutKind::sparse_csr);
  const Archive qscheme = archive_of(tagged("qscheme", {str("per_channel_affine")})).open();
  CHECK(*value_of(qscheme).get<QSchemeKind>() == QSchemeKind::per_channel_affine);
  CHECK(decoded(tagged("undefined", {})) == "None");
  CHECK(decoded(tagged("tuple", {tuple({str("ckptio.bytes"), integer(1)})})) == "('ckptio.bytes', 1)");
  CHECK(decoded(tagged("size", {tuple({integer(2), integer(3)})})) == "Size(2, 3)");
  CHECK(decoded(tagged("size", {")"})) == "Size()");
  CHECK(decoded(tagged("set", {list({integer(1), str("a")})})) == "set{1, 'a'}");
  CHECK(decoded(tagged("frozenset", {"]"})) == "frozenset{}");
}

TEST_CASE("Dicts of other keys, ordered ones and counters are decoded, with what was set on them", "[libtorch]") {
  CHECK(decoded(tagged("dict", {list({tuple({integer(1), str("a")}), tuple({str("b"), kNone})})})) ==
        "{1: 'a', 'b': None}");
  CHECK(decoded(tagged("ordered_dict", {dict({str("w"), integer(1)}), dict({str("_metadata"), integer(2)})})) ==
        "odict{'w': 1}+{'_metadata': 2}");
  CHECK(decoded(tagged("ordered_dict", {dict({str("w"), integer(1)}), "}"})) == "odict{'w': 1}");
  CHECK(decoded(tagged("counter", {tagged("dict", {list({tuple({integer(1), integer(2)})})}), "}"})) ==
        "counter{1: 2}");
}

TEST_CASE("What is encoded within what is encoded is decoded, and what is shared is decoded once", "[libtorch]") {
  CHECK(
      decoded(tagged("dict", {list({tuple({tagged("size", {tuple({integer(1)})}), tagged("bytes", {str("v")})})})})) ==
      "{Size(1,): b'v'}");
  CHECK(decoded(tagged("frozenset", {list({tagged("frozenset", {list({integer(1)})})})})) == "frozenset{frozenset{1}}");
  CHECK(decoded(tagged("ordered_dict", {dict({str("w"), list({tagged("bytes", {str("a")})})}),
                                        dict({str("m"), tagged("device", {str("cpu")})})})) ==
        "odict{'w': [b'a']}+{'m': device(cpu)}");
  CHECK(decoded(tagged("tuple", {tuple({str("ckptio.bytes"), tagged("bytes", {str("a")})})})) ==
        "('ckptio.bytes', b'a')");
  const std::string put = memo('q', 0), get = memo('h', 0);
  CHECK(decoded(list({tagged("set", {list({integer(1)})}) + put, get})) == "[#1=set{1}, #1]");
  // A list within itself.
  CHECK(decoded("]" + put + get + "a" + tagged("bytes", {str("a")}) + "a") == "#1=[#1, b'a']");
}

TEST_CASE("A tuple of another tag than ours is a tuple", "[libtorch]") {
  CHECK(decoded(tuple({str("ckpt.bytes"), str("a")})) == "('ckpt.bytes', 'a')");
  CHECK(decoded(tuple({integer(1), str("ckptio.bytes")})) == "(1, 'ckptio.bytes')");
  CHECK(decoded(")") == "()");
}

TEST_CASE("An encoding that we would not have written is refused", "[libtorch]") {
  CHECK_THAT(refused(tagged("nonsense", {integer(1)})),
             ContainsSubstring("unknown encoding 'ckptio.nonsense' of 2 fields") && ContainsSubstring("x.pt"));
  CHECK_THAT(refused(tagged("bytes", {})), ContainsSubstring("unknown encoding"));
  CHECK_THAT(refused(tagged("bytes", {integer(1)})), ContainsSubstring("unknown encoding"));
  CHECK_THAT(refused(tagged("set", {integer(1)})), ContainsSubstring("malformed 'ckptio.set'"));
  CHECK_THAT(refused(tagged("set", {list({list({integer(1)})})})), ContainsSubstring("cannot be one"));
  CHECK_THAT(refused(tagged("set", {list({tuple({"]"})})})), ContainsSubstring("cannot be one"));
  CHECK_THAT(refused(tagged("dict", {list({tuple({"]", integer(1)})})})), ContainsSubstring("cannot be one"));
  CHECK_THAT(refused(tagged("dict", {list({tuple({integer(1)})})})), ContainsSubstring("no key and value"));
  CHECK_THAT(refused(tagged("dict", {list({integer(1)})})), ContainsSubstring("malformed 'ckptio.dict'"));
  CHECK_THAT(refused(tagged("ordered_dict", {list({}), "}"})), ContainsSubstring("malformed"));
  CHECK_THAT(refused(tagged("counter", {"}", integer(1)})), ContainsSubstring("malformed"));
  CHECK_THAT(refused(tagged("size", {tuple({str("a")})})), ContainsSubstring("malformed 'ckptio.size'"));
  CHECK_THAT(refused(tagged("int", {str("12345678")})), ContainsSubstring("no large integer"));
  CHECK_THAT(refused(tagged("dtype", {str("float31")})), ContainsSubstring("unknown dtype 'float31'"));
  CHECK_THAT(refused(tagged("layout", {str("x")})), ContainsSubstring("unknown layout"));
  CHECK_THAT(refused(tagged("qscheme", {str("x")})), ContainsSubstring("unknown qscheme"));
}

TEST_CASE("A view of another dtype is a tensor of the same storage", "[libtorch]") {
  ViewFields fields;
  fields.requires_grad = kTrue;
  const Archive archive = archive_of(view(fields)).open();
  const auto& tensor = *value_of(archive).get<ObjectTensor>();
  CHECK(tensor.form == ObjectTensor::Form::dense);
  CHECK(tensor.dtype == DType::int16);
  CHECK(tensor.storage == 0);
  CHECK(tensor.sizes == std::vector<std::int64_t>{2, 3});
  CHECK(tensor.strides == std::vector<std::int64_t>{1, 2});
  CHECK(tensor.offset == 4);
  CHECK(tensor.requires_grad);
}

TEST_CASE("A view that does not fit its storage is refused", "[libtorch]") {
  ViewFields fields;
  fields.offset = integer(10);  // its last element is the storage's
  CHECK(refused(view(fields)).empty());
  ViewFields empty;
  empty.sizes = list({integer(0), integer(1)});
  empty.offset = integer(16);  // the storage's end
  CHECK(refused(view(empty)).empty());
  const std::string does_not_fit = "does not fit its storage", impossible = "impossible geometry";
  std::string expected = does_not_fit;
  SECTION("by its offset") { fields.offset = integer(11); }
  SECTION("by a stride") { fields.strides = list({integer(1), integer(6)}); }
  SECTION("by a size") { fields.sizes = list({integer(2), integer(7)}); }
  SECTION("by its dtype") { fields.dtype = str("int64"); }
  SECTION("with a negative offset") { fields.offset = integer(-1), expected = impossible; }
  SECTION("with a negative stride") { fields.strides = list({integer(-1), integer(2)}), expected = impossible; }
  SECTION("with a negative size") { fields.sizes = list({integer(-2), integer(3)}), expected = impossible; }
  SECTION("with more sizes than strides") { fields.strides = list({integer(1)}), expected = impossible; }
  SECTION("with a product beyond 64 bits") {
    fields.sizes = list({integer(std::int64_t{1} << 40), integer(std::int64_t{1} << 40)});
    fields.strides = list({integer(0), integer(0)});
    expected = impossible;
  }
  SECTION("with an offset beyond 64 bits") {
    fields.offset = integer(INT64_MAX);
    expected = impossible;
  }
  SECTION("with an empty size, but an offset behind it") {
    fields.sizes = list({integer(0), integer(1)});
    fields.offset = integer(17);
  }
  SECTION("of a base that is no tensor") { fields.base = integer(1), expected = "malformed 'ckptio.view'"; }
  SECTION("of a base without a storage") {
    fields.base = tagged("undefined", {});
    expected = "malformed 'ckptio.view'";
  }
  CHECK_THAT(refused(view(fields)), ContainsSubstring(expected));
}

TEST_CASE("A meta tensor is its geometry, which has to be possible", "[libtorch]") {
  const auto meta = [](const std::string& sizes, const std::string& strides) {
    return tagged("meta", {str("float16"), sizes, strides, kTrue});
  };
  const Archive archive = archive_of(meta(list({integer(3)}), list({integer(2)}))).open();
  const auto& tensor = *value_of(archive).get<ObjectTensor>();
  CHECK(tensor.form == ObjectTensor::Form::meta);
  CHECK(tensor.dtype == DType::float16);
  CHECK(tensor.sizes == std::vector<std::int64_t>{3});
  CHECK(tensor.strides == std::vector<std::int64_t>{2});
  CHECK(tensor.storage == ObjectTensor::kNoStorage);
  CHECK(tensor.requires_grad);
  CHECK_THAT(refused(meta(list({integer(INT64_MAX)}), list({integer(2)}))), ContainsSubstring("impossible geometry"));
  CHECK_THAT(refused(meta(list({integer(1)}), "]")), ContainsSubstring("impossible geometry"));
}

TEST_CASE("A storage by itself has the dtype that it was saved with, or none", "[libtorch]") {
  TensorParts octets;
  octets.storage = storage("ByteStorage", "0", 32);
  octets.sizes = integers({32});
  const auto saved = [&](const std::string& dtype) { return tagged("storage", {tensor(octets), str(dtype)}); };
  const Archive typed = archive_of(saved("float64")).open();
  CHECK(value_of(typed).get<ObjectStorage>()->storage == 0);
  CHECK(typed.graph().storages[0].dtype == DType::float64);
  CHECK_FALSE(typed.graph().storages[0].untyped);
  const Archive untyped = archive_of(saved("")).open();
  CHECK(untyped.graph().storages[0].untyped);
  ViewFields of_floats{eight_floats(), str("uint8"), list({integer(32)}), list({integer(1)}), integer(0), kFalse};
  const Archive shared = archive_of(tagged("storage", {view(of_floats), str("float32")})).open();
  CHECK(value_of(shared).get<ObjectStorage>()->storage == 0);
  CHECK(shared.graph().storages[0].dtype == DType::float32);
  octets.storage = storage("ByteStorage", "0", 30);
  octets.sizes = integers({30});
  CHECK_THAT(refused(saved("float32")), ContainsSubstring("no whole number"));
  CHECK_THAT(refused(tagged("storage", {integer(1), str("")})), ContainsSubstring("malformed 'ckptio.storage'"));
}

TEST_CASE("Storages have the devices that they were saved from, in the order of first appearance", "[libtorch]") {
  const std::string ordered =
      tagged("ordered_dict", {dict({str("a"), floats("1", 1)}), dict({str("m"), floats("3", 1)})});
  const std::string alone = tagged("storage", {floats("4", 1), str("")});
  const std::string all = list({ordered, floats("0", 1), floats("1", 1), tuple({alone, floats("2", 1)})});
  const auto locations = [&](const std::vector<std::string>& saved) {
    LibTorchArchive source = archive_of(all, {str("ckptio_locations"), list(saved)});
    source.storages.clear();
    for (int i = 0; i < 5; ++i) source.storages.emplace_back("data/" + std::to_string(i), "1234");
    const Archive archive = source.open();
    std::string found;
    for (const StorageInfo& storage : archive.graph().storages) found += storage.key + " " + storage.location + ", ";
    return found;
  };
  CHECK(locations({str("cuda:1"), str("cuda:3"), str("cpu"), str("cuda:4"), str("cuda:2")}) ==
        "1 cuda:1, 3 cuda:3, 0 cpu, 4 cuda:4, 2 cuda:2, ");
  SECTION("those that the list does not reach, or names by no string, keep theirs") {
    CHECK(locations({str("cuda:1"), integer(1)}) == "1 cuda:1, 3 cpu, 0 cpu, 4 cpu, 2 cpu, ");
    CHECK(locations({}) == "1 cpu, 3 cpu, 0 cpu, 4 cpu, 2 cpu, ");
  }
}

TEST_CASE("A format version that we do not know, or that is none, is refused", "[libtorch]") {
  const auto open = [](const std::string& version) { return archive_of(integer(1), {}, version).open(); };
  CHECK_THROWS_AS(open(integer(3)), UnsupportedError);
  CHECK_THROWS_WITH(open(integer(3)), ContainsSubstring("version is 3") && ContainsSubstring("up to 2"));
  CHECK_THROWS_AS(open(integer(0)), CorruptError);
  CHECK_THROWS_AS(open(str("2")), CorruptError);
}

TEST_CASE("An archive of ours whose attributes are not what they should be is refused", "[libtorch]") {
  LibTorchArchive source = archive_of(integer(1), {str("ckptio_locations"), integer(1)});
  CHECK_THROWS_WITH(source.open(), ContainsSubstring("list of devices"));
  source.data = object("Module", {str("ckptio_format_version"), integer(1)});
  CHECK_THROWS_WITH(source.open(), ContainsSubstring("holds no checkpoint"));
  source.data = object("Module", {str("ckptio_format_version"), integer(1), str("checkpoint"), list({})});
  CHECK_THROWS_WITH(source.open(), ContainsSubstring("no dictionary"));
}
