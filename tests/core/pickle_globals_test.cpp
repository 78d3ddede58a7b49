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

std::string called(const std::string& module, const std::string& name, const std::vector<std::string>& args) {
  return text_of(doc(call(module, name, args)));
}
std::string refused(const std::string& module, const std::string& name, const std::vector<std::string>& args) {
  return error_of(doc(call(module, name, args)));
}

}  // namespace

TEST_CASE("Python's own types become what they are") {
  CHECK(called("collections", "OrderedDict", {}) == "odict{}");
  CHECK(called("collections", "OrderedDict", {list({list({str("b"), integer(1)}), tuple({str("a"), integer(2)})})}) ==
        "odict{'b': 1, 'a': 2}");
  CHECK(called("collections", "Counter", {dict({str("a"), integer(2)})}) == "counter{'a': 2}");
  CHECK(called("__builtin__", "set", {list({integer(1), integer(1)})}) == "set{1}");
  CHECK(called("builtins", "frozenset", {list({integer(1)})}) == "frozenset{1}");
  CHECK(called("_codecs", "encode", {str("\x7f\xc2\x80\xc3\xbf"), str("latin1")}) == "b'\\x7f\\x80\\xff'");
  CHECK(called("__builtin__", "bytes", {}) == "b''");
  CHECK(called("__builtin__", "bytearray", {latin1_bytes("xy")}) == "bytearray'xy'");
  CHECK(called("__builtin__", "bytearray", {str("xy"), str("latin-1")}) == "bytearray'xy'");
  CHECK(called("builtins", "bytearray", {}) == "bytearray''");
  CHECK(called("builtins", "complex", {number(1), number(-2)}) == "complex(1.000000, -2.000000)");
}

TEST_CASE("torch's plain types become what they are") {
  CHECK(called("torch", "Size", {integers({2, 3})}) == "Size(2, 3)");
  CHECK(called("torch", "device", {str("cuda"), integer(1)}) == "device(cuda:1)");
  CHECK(called("torch", "device", {str("cpu")}) == "device(cpu)");
  CHECK(*read_graph(doc(global("torch", "bfloat16"))).root->get<DType>() == DType::bfloat16);
  CHECK(*read_graph(doc(global("torch", "long"))).root->get<DType>() == DType::int64);
  CHECK(*read_graph(doc(global("torch", "per_channel_affine"))).root->get<QSchemeKind>() ==
        QSchemeKind::per_channel_affine);
  CHECK(
      *read_graph(doc(call("torch.serialization", "_get_layout", {str("torch.sparse_bsc")}))).root->get<LayoutKind>() ==
      LayoutKind::sparse_bsc);
}

TEST_CASE("An OrderedDict keeps what Python code set on it") {
  CHECK(text_of(doc(ordered_dict() + dict({str("_metadata"), "}"}) + "b")) == "odict{}+{'_metadata': {}}");
  CHECK(text_of(doc(ordered_dict() + "Nb")) == "odict{}");
  for (const char* state : {"]", "K\x01", "}K\x01Ns"}) {
    CHECK_FALSE(error_of(doc(ordered_dict() + state + "b")).empty());
  }
}

TEST_CASE("A state cannot say what class an object has") {
  const std::string state = dict({str("__class__"), global("os", "system")});
  CHECK_THAT(error_of(doc(ordered_dict() + state + "b")), ContainsSubstring("'__class__'"));
  CHECK_THAT(error_of(doc(tensor() + state + "b")), ContainsSubstring("'__class__'"));
}

TEST_CASE("Arguments that a type does not take are refused") {
  CHECK_THAT(refused("collections", "OrderedDict", {integer(5)}), ContainsSubstring("a dict expected"));
  CHECK_THAT(refused("collections", "OrderedDict", {list({integer(5)})}), ContainsSubstring("pairs"));
  CHECK_THAT(refused("builtins", "set", {integer(5)}), ContainsSubstring("a list expected"));
  CHECK_THAT(refused("builtins", "set", {list({"]"})}), ContainsSubstring("could not hash"));
  CHECK_THAT(refused("_codecs", "encode", {str("x"), str("zip_codec")}), ContainsSubstring("'latin1' expected"));
  CHECK_THAT(refused("_codecs", "encode", {str("\xc4\x80"), str("latin1")}), ContainsSubstring("latin1 does not have"));
  CHECK_THAT(refused("builtins", "complex", {str("1j")}), ContainsSubstring("2 expected"));
  CHECK_THAT(refused("torch", "Size", {list({number(1)})}), ContainsSubstring("integers expected"));
  CHECK_THAT(refused("torch", "device", {str("../x")}), ContainsSubstring("'cuda:0' expected"));
  CHECK_THAT(refused("torch.serialization", "_get_layout", {str("__class__")}), ContainsSubstring("name of a layout"));
}

TEST_CASE("A number in the file never asks for memory") {
  const std::string huge = integer(std::int64_t{1} << 60);
  CHECK_THAT(refused("builtins", "bytearray", {huge}), ContainsSubstring("bytes expected"));
  CHECK_THAT(refused("builtins", "bytes", {huge}), ContainsSubstring("bytes expected"));
  CHECK_THAT(refused("torch", "FloatStorage", {huge}), ContainsSubstring("no checkpoint needs"));
  CHECK_THAT(refused("torch", "Tensor", {huge}), ContainsSubstring("no checkpoint needs"));
  CHECK_THAT(refused("torch", "FloatTensor", {huge}), ContainsSubstring("no checkpoint needs"));
  CHECK_THAT(refused("torch.storage", "UntypedStorage", {huge}), ContainsSubstring("no checkpoint needs"));
}

TEST_CASE("__new__ of known classes makes them empty") {
  CHECK(text_of(doc(global("collections", "OrderedDict") + ")\x81")) == "odict{}");
  CHECK_THAT(error_of(doc(global("collections", "OrderedDict") + "}\x85\x81")), ContainsSubstring("0 expected"));
  CHECK_THAT(error_of(doc(global("torch._utils", "_rebuild_tensor_v2") + ")\x81")),
             ContainsSubstring("a class expected"));
  CHECK_THAT(error_of(doc(global("collections", "OrderedDict") + ")}\x92", 4)), ContainsSubstring("takes none"));
}

TEST_CASE("Types that weights_only refuses stay inert") {
  CHECK(called("collections", "defaultdict", {global("__builtin__", "list")}) ==
        "collections.defaultdict(builtins.list,)");
  CHECK(called("torch._utils", "_rebuild_device_tensor_from_numpy", {kNone}) ==
        "torch._utils._rebuild_device_tensor_from_numpy(None,)");
}

TEST_CASE("A LibTorch archive's lists, tagged containers and classes are read") {
  const auto read = [](const std::string& body) { return text_of(doc(body), PickleDialect::libtorch); };
  const std::string pickle = "torch.jit._pickle";
  CHECK(read(call(pickle, "build_intlist", {list({integer(1)})})) == "[1]");
  CHECK(read(call(pickle, "build_tensorlist", {list({tensor()})})) == "[a tensor]");
  CHECK(read(call(pickle, "restore_type_tag", {dict({str("a"), integer(1)}), str("Dict[str, int]")})) == "{'a': 1}");
  CHECK(read(global("__torch__", "M") + ")\x81" + dict({str("x"), integer(1)}) + "b") == "new __torch__.M()<-{'x': 1}");
  CHECK_FALSE(error_of(doc(call(pickle, "build_intlist", {integer(1)})), PickleDialect::libtorch).empty());
  CHECK_FALSE(
      error_of(doc(call(pickle, "restore_type_tag", {integer(1), str("int")})), PickleDialect::libtorch).empty());
  // Its classes are expected there; other names are not.
  const ObjectGraph graph =
      read_graph(doc(global("__torch__.a", "M") + global("os", "system") + "\x86"), PickleDialect::libtorch);
  REQUIRE(graph.unknown_globals.size() == 1);
  CHECK(graph.unknown_globals[0].name == "os.system");
}
