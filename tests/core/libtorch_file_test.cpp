// SPDX-License-Identifier: Apache-2.0
#include "codec/libtorch_file.h"

#include <string>

#include "ckptio/error.h"
#include "codec/torchscript_code.h"
#include "read_pickle_text.h"
#include "support/catch.h"
#include "support/libtorch_archive.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;
using namespace ckptio::test::pickle;

namespace {

const std::string kFourFloats("\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40", 16);

std::string text_of(const LibTorchArchive& archive) { return GraphText{}(archive.open().root()); }

// Of one class whose attributes need no declaration, as it is never run.
LibTorchArchive archive_of(const std::string& data, const std::string& code = "class Net(Module):\n  x : int\n") {
  LibTorchArchive archive;
  archive.data = data;
  archive.code = {{"__torch__.py", code}};
  return archive;
}

// One tensor, the attribute 't' of the root.
const ObjectTensor& tensor_in(const Archive& archive) {
  return *archive.root().get<ObjectDict>()->items.at(0).second->get<ObjectTensor>();
}

std::string sparse(const std::vector<std::string>& args) {
  return call("torch._utils", "_rebuild_sparse_tensor", args);
}

// Names that `named` has, in its order; "|" before the modules.
std::string names_of(const LibTorchArchive& source) {
  const Archive archive = source.open();
  const ModuleNames named = name_modules(archive);
  std::string all;
  for (const auto& [name, tensor] : named.tensors) all += name + " ";
  all += "|";
  for (const std::string& name : named.modules) all += " '" + name + "'";
  return all;
}

}  // namespace

TEST_CASE("An object in a LibTorch archive is the dict of its attributes, one within it a dict within", "[libtorch]") {
  LibTorchArchive source =
      archive_of(object("Net", {str("n"), integer(1), str("inner"), object("Inner", {str("names"), list({str("a")})}),
                                str("plain"), object("Plain", {str("x"), kNone})}),
                 "class Net(Module):\n  n : int\nclass Inner(Module):\n  names : List[str]\n"
                 "class Plain:\n  x : NoneType\n");
  const Archive archive = source.open();
  CHECK(archive.format() == ArchiveFormat::libtorch);
  CHECK(GraphText{}(archive.root()) == "{'n': 1, 'inner': {'names': ['a']}, 'plain': {'x': None}}");
  CHECK_FALSE(archive.is_checkpoint());
  REQUIRE(archive.script_modules().size() == 2);  // Plain is a class, but no module
  CHECK(archive.script_modules()[0].type->name == "Net");
  CHECK(archive.script_modules()[0].object == &archive.root());
  CHECK(archive.script_modules()[1].type->name == "Inner");
}

TEST_CASE("A class is found by the folder and the file of its code", "[libtorch]") {
  LibTorchArchive source;
  source.data = global("__torch__.torch.nn.linear", "Linear") + ")\x81" + dict({str("n"), integer(1)}) + "b";
  const std::string code = "class Linear(Module):\n  n : int\n";
  source.code = {{"__torch__/torch/nn/linear.py", code}};
  CHECK(text_of(source) == "{'n': 1}");
  source.code = {{"__torch__/torch/nn.py", code}};
  CHECK(text_of(source) == "new __torch__.torch.nn.linear.Linear()<-{'n': 1}");
}

TEST_CASE("What more than its attributes would restore stays an object, with all there is to it", "[libtorch]") {
  const std::string attributes = dict({str("n"), integer(1)});
  const auto read = [](const std::string& data, const std::string& code) { return text_of(archive_of(data, code)); };
  const std::string plain = "class Net(Module):\n  n : int\n";
  const std::string made = global("__torch__", "Net") + ")\x81";
  CHECK(read(made + attributes + "b", plain) == "{'n': 1}");
  SECTION("a class with __setstate__") {
    CHECK(read(made + attributes + "b",
               plain + "  def __setstate__(self: __torch__.Net, s: int) -> NoneType:\n    return None\n") ==
          "new __torch__.Net()<-{'n': 1}");
  }
  SECTION("a class that code/ does not have, or has twice") {
    CHECK(read(made + attributes + "b", "class Other(Module):\n  n : int\n") == "new __torch__.Net()<-{'n': 1}");
    CHECK(read(made + attributes + "b", plain + plain) == "new __torch__.Net()<-{'n': 1}");
  }
  SECTION("a state that is no dict with names") {
    CHECK(read(made + list({integer(1)}) + "b", plain) == "new __torch__.Net()<-[1]");
    CHECK(read(made + dict({integer(2), integer(1)}) + "b", plain) == "new __torch__.Net()<-{2: 1}");
    CHECK(read(made, plain) == "new __torch__.Net()");
  }
  SECTION("arguments, items or a call") {
    CHECK(read(global("__torch__", "Net") + tuple({integer(3)}) + "\x81" + attributes + "b", plain) ==
          "new __torch__.Net(3,)<-{'n': 1}");
    CHECK(read(global("__torch__", "Net") + ")R" + attributes + "b", plain) == "__torch__.Net()<-{'n': 1}");
  }
  SECTION("an enum's value, which LibTorch gives to its class as it is") {
    const std::string color = "class Color(Enum):\n  R = 1\n  G = 2\n";
    CHECK(read(global("__torch__", "Color") + integer(2) + "R", color) == "__torch__.Color(2,)");
    CHECK(read(global("__torch__", "Color") + str("g") + "R", color) == "__torch__.Color('g',)");
    CHECK(read(global("__torch__", "Color") + ")\x81" + attributes + "b", color) == "new __torch__.Color()<-{'n': 1}");
  }
}

TEST_CASE("Only the classes of __torch__ may be called with what is no tuple", "[libtorch]") {
  CHECK_THROWS_AS(archive_of(global("os", "system") + str("true") + "R").open(), CorruptError);
  LibTorchArchive python = archive_of(global("__torch__", "Color") + integer(2) + "R");
  CHECK_THROWS_AS(read_graph(doc(python.data), PickleDialect::python), CorruptError);
}

TEST_CASE("Two objects of TorchScript that share their attributes are refused", "[libtorch]") {
  const std::string made = global("__torch__", "Net") + ")\x81";
  const std::string shared = made + dict({str("n"), integer(1)}) + memo('q', 0) + "b";
  const std::string again = made + memo('h', 0) + "b";
  CHECK_THROWS_WITH(archive_of(tuple({shared, again})).open(), ContainsSubstring("share their attributes"));
}

TEST_CASE("A tensor on the meta device has a shape, and neither bytes nor a storage", "[libtorch]") {
  LibTorchArchive source = archive_of(object("Net", {str("t"), floats("0", 4, "meta")}));
  source.storages = {{"data/0", ""}};
  const Archive archive = source.open();
  const ObjectTensor& tensor = tensor_in(archive);
  CHECK(tensor.form == ObjectTensor::Form::meta);
  CHECK(tensor.storage == ObjectTensor::kNoStorage);
  CHECK(tensor.sizes == std::vector<std::int64_t>{4});
  CHECK(tensor.strides == std::vector<std::int64_t>{1});
  CHECK(archive.storages().at(0).n_bytes == 0);
  SECTION("its record has to be empty") {
    source.storages[0].second = kFourFloats;
    CHECK_THROWS_WITH(source.open(), ContainsSubstring("16 bytes found, 0 expected"));
  }
  SECTION("one among the constants too") {
    LibTorchArchive constants = archive_of(object("Net", {}));
    constants.constants = tuple({floats("0", 4, "meta")});
    constants.storages = {{"constants/0", ""}};
    CHECK(text_of(constants) == "{}");
  }
}

TEST_CASE("LibTorch's own form of sparse tensors is understood", "[libtorch]") {
  LibTorchArchive source = archive_of("");
  source.storages = {
      {"data/0", std::string(16, '\0')}, {"data/1", std::string(16, '\0')}, {"data/2", kFourFloats.substr(0, 8)}};
  const auto with = [&](const std::vector<std::string>& args) {
    source.data = object("Net", {str("t"), sparse(args)});
    return source.open();
  };
  const std::string no_hooks = ordered_dict();
  const std::string values = floats("2", 2);
  SECTION("coordinates") {
    const std::string indices = longs("0", {1, 2});
    source.storages.erase(source.storages.begin() + 1);
    const Archive archive = with({integer(1), integers({3}), kTrue, indices, values, no_hooks});
    const ObjectTensor& tensor = tensor_in(archive);
    CHECK(tensor.form == ObjectTensor::Form::sparse_coo);
    CHECK(tensor.layout == LayoutKind::sparse_coo);
    CHECK(tensor.sizes == std::vector<std::int64_t>{3});
    CHECK(tensor.requires_grad);
    CHECK(tensor.parts.size() == 2);
    CHECK_THROWS_AS(with({integer(2), integers({3}), kTrue, indices, values, no_hooks}), CorruptError);
    CHECK_THROWS_AS(with({integer(1), integers({3, 3}), kTrue, indices, values, no_hooks}), CorruptError);
  }
  SECTION("compressed rows") {
    const std::string rows = longs("0", {2}), columns = longs("1", {2});
    const Archive archive = with({integer(2), integers({1, 3}), kFalse, rows, columns, values, no_hooks});
    const ObjectTensor& tensor = tensor_in(archive);
    CHECK(tensor.form == ObjectTensor::Form::sparse_compressed);
    CHECK(tensor.layout == LayoutKind::sparse_csr);
    CHECK(tensor.sizes == std::vector<std::int64_t>{1, 3});
    CHECK_FALSE(tensor.requires_grad);
    CHECK(tensor.parts.size() == 3);
    CHECK_THROWS_AS(with({integer(1), integers({1, 3}), kFalse, rows, columns, values, no_hooks}), CorruptError);
    CHECK_THROWS_AS(with({integer(2), integers({2, 3}), kFalse, rows, columns, values, no_hooks}), CorruptError);
  }
  SECTION("no other layout, nor number of parts") {
    CHECK_THROWS_AS(with({integer(0), integers({3}), kTrue, longs("0", {1, 2}), values, no_hooks}), CorruptError);
    CHECK_THROWS_AS(with({integer(1), integers({3}), kTrue, longs("0", {1, 2}), values}), CorruptError);
  }
  SECTION("nor in Python's files") {
    const std::string args = tuple({integer(1), integers({3}), kTrue, longs("0", {1, 2}), values, no_hooks});
    CHECK_THROWS_AS(read_graph(doc(global("torch._utils", "_rebuild_sparse_tensor") + args + "R")), CorruptError);
  }
}

TEST_CASE("A LibTorch archive's strings may be any octets, those of Python's files may not", "[libtorch]") {
  const std::string octets = str("\xff\xfe");
  const Archive archive = archive_of(object("Net", {str("s"), octets})).open();
  CHECK(archive.root().get<ObjectDict>()->items.at(0).second->get<ObjectString>()->utf8 == "\xff\xfe");
  CHECK_THROWS_AS(read_graph(doc(octets)), CorruptError);
}

TEST_CASE("A LibTorch archive's storages are found in data/, in its byte order", "[libtorch]") {
  LibTorchArchive source = archive_of(object("Net", {str("t"), floats("w0")}));
  source.storages = {{"data/w0", kFourFloats}};
  const auto content = [&] {
    const Archive archive = source.open();
    std::string bytes(archive.storages().at(0).n_bytes, '\0');
    archive.read_storage(0, bytes.data());
    return bytes;
  };
  CHECK(content() == kFourFloats);
  SECTION("big-endian numbers are turned") {
    source.byteorder = "big";
    source.storages[0].second.clear();
    for (std::size_t i = 0; i < 16; i += 4)
      source.storages[0].second += std::string(kFourFloats.rend() - i - 4, kFourFloats.rend() - i);
    CHECK(content() == kFourFloats);
  }
  SECTION("a storage of another size is refused") {
    source.storages[0].second.pop_back();
    CHECK_THROWS_WITH(source.open(), ContainsSubstring("15 bytes found, 16 expected"));
  }
  SECTION("a missing one is refused") {
    source.storages.clear();
    CHECK_THROWS_WITH(source.open(), ContainsSubstring("no record 'archive/data/w0'"));
  }
}

TEST_CASE("The constants of functions are checked, and left out", "[libtorch]") {
  LibTorchArchive source = archive_of(object("Net", {str("n"), integer(1)}));
  source.constants = tuple({floats("0")});
  source.storages = {{"constants/0", kFourFloats}};
  const Archive archive = source.open();
  CHECK(archive.storages().empty());
  CHECK(archive.graph().storages.empty());
  SECTION("a constant of another size is refused") {
    source.storages[0].second += "more";
    CHECK_THROWS_AS(source.open(), CorruptError);
  }
  SECTION("a constant without a record is refused") {
    source.storages[0].first = "data/0";
    CHECK_THROWS_AS(source.open(), CorruptError);
  }
  SECTION("a pickle of them that is damaged is refused") {
    source.constants = "t";
    CHECK_THROWS_AS(source.open(), CorruptError);
  }
}

TEST_CASE("More code than any model has is refused before it is examined", "[libtorch]") {
  LibTorchArchive source = archive_of(object("Net", {}));
  const std::string long_line = "# " + std::string(5 << 20, 'x') + "\n";
  source.code.emplace_back("a.py", long_line);
  CHECK(text_of(source) == "{}");
  source.code.emplace_back("notes.txt", long_line);  // no code
  CHECK(text_of(source) == "{}");
  source.code.emplace_back("b.py", long_line);
  CHECK_THROWS_AS(source.open(), UnsupportedError);
  CHECK_THROWS_WITH(source.open(), ContainsSubstring("more than 8 MiB of TorchScript code"));
}

TEST_CASE("Tensors of modules have Python's names: all parameters, then all buffers", "[libtorch]") {
  LibTorchArchive source;
  source.code = {{"__torch__.py",
                  "class Net(Module):\n  __parameters__ = [\"w\", ]\n  __buffers__ = [\"mean\", ]\n"
                  "class Inner(Module):\n  __parameters__ = [\"w\", ]\n  __buffers__ = [\"mean\", ]\n"
                  "class Plain:\n  __parameters__ = [\"w\", ]\n"}};
  source.storages = {{"data/0", kFourFloats}};
  const std::string t = floats("0");
  SECTION("of each module in turn, the outer one's first") {
    source.data = object("Net", {str("inner"), object("Inner", {str("mean"), t, str("w"), t}), str("mean"), t, str("w"),
                                 t, str("list"), object("Inner", {str("w"), t})});
    CHECK(names_of(source) == "w inner.w list.w mean inner.mean | '' 'inner' 'list'");
  }
  SECTION("attributes that are no parameter or buffer, or no tensor, have none") {
    source.data = object("Net", {str("other"), t, str("w"), integer(1), str("mean"), kNone});
    CHECK(names_of(source) == "| ''");
  }
  SECTION("a class that is no module names nothing") {
    source.data = object("Net", {str("plain"), object("Plain", {str("w"), t})});
    CHECK(names_of(source) == "| ''");
  }
  SECTION("a tensor and a module that are used twice are named once, where they are first") {
    source.data = object("Net", {str("a"), object("Inner", {str("w"), t + memo('q', 0)}) + memo('q', 1), str("b"),
                                 memo('h', 1), str("w"), memo('h', 0)});
    CHECK(names_of(source) == "w | '' 'a'");
  }
  SECTION("an archive without modules has none") {
    source.data = object("Plain", {str("w"), t});
    CHECK(names_of(source) == "|");
  }
}

TEST_CASE("Names that grow with the way to a module are bounded all together", "[libtorch]") {
  const auto chain = [](std::size_t n_bytes) {
    std::string data = object("Net", {});
    for (int i = 0; i < 30; ++i) data = object("Net", {str(std::string(n_bytes, 'n')), data});
    return archive_of(data).open();
  };
  CHECK(name_modules(chain(1000)).modules.size() == 31);
  const Archive archive = chain(50'000);
  CHECK_THROWS_WITH(name_modules(archive), ContainsSubstring("more than 16 MiB"));
}
