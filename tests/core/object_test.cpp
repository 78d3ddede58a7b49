// SPDX-License-Identifier: Apache-2.0
#include "codec/object.h"

#include <string>

#include "codec/limits.h"
#include "read_pickle_text.h"
#include "support/catch.h"
#include "support/pickle_assembler.h"

using namespace ckptio::detail;
using namespace ckptio::test;
using namespace ckptio::test::pickle;

namespace {

std::string class_of(const std::string& body) { return class_name(*read_graph(doc(body)).root); }

// "global at path; global at path".
std::string places_of(const std::string& body) {
  std::string all;
  for (const OpaquePlace& place : find_opaque(read_graph(doc(body)).root)) {
    all += (all.empty() ? "" : "; ") + place.global + " at " + place.path;
  }
  return all;
}

std::string numpy_dtype(const std::string& code) {
  return call("numpy", "dtype", {str(code), kFalse, kTrue}) + tuple({integer(3), str("<")}) + "b";
}

}  // namespace

TEST_CASE("The class of an object is what its steps make, not the function that makes it") {
  CHECK(class_of(global("argparse", "Namespace") + ")\x81}b") == "argparse.Namespace");
  CHECK(class_of(call("pathlib", "PosixPath", {str("/")})) == "pathlib.PosixPath");
  CHECK(class_of(call("copy_reg", "_reconstructor", {global("m", "C"), global("__builtin__", "object"), kNone})) ==
        "m.C");
  CHECK(class_of(call("numpy._core.multiarray", "_reconstruct",
                      {global("numpy", "ndarray"), integers({0}), latin1_bytes("b")})) == "numpy.ndarray");
  CHECK(class_of(call("numpy._core.multiarray", "scalar", {numpy_dtype("f8"), latin1_bytes("")})) == "numpy.float64");
  CHECK(class_of(call("numpy._core.multiarray", "scalar", {numpy_dtype("b1"), latin1_bytes("")})) == "numpy.bool");
  CHECK(class_of(call("numpy.core.multiarray", "scalar", {numpy_dtype("b1"), latin1_bytes("")})) == "numpy.bool_");
  CHECK(class_of(numpy_dtype("f4")) == "numpy.dtypes.Float32DType");
  CHECK(class_of(numpy_dtype("U5")) == "numpy.dtypes.StrDType");
  CHECK(class_of(call("torch._tensor", "_rebuild_from_type_v2",
                      {global("torch._utils", "_rebuild_tensor_v2"), global("m", "Sub"), tuple({}), kNone})) ==
        "m.Sub");
  CHECK(class_of(global("__builtin__", "Ellipsis")) == "builtins.ellipsis");
  CHECK(class_of(global("__builtin__", "long")) == "builtins.type");
  CHECK(class_of(global("m", "f")) == "m.f");
}

TEST_CASE("Damaged arguments give a name, too") {
  CHECK(class_of(call("numpy._core.multiarray", "scalar", {})) == "numpy._core.multiarray.scalar");
  CHECK(class_of(call("numpy._core.multiarray", "_reconstruct", {kNone})) == "numpy._core.multiarray._reconstruct");
  CHECK(class_of(call("numpy", "dtype", {kNone})) == "numpy.dtype");
  CHECK(class_of(call("copyreg", "_reconstructor", {str("m.C")})) == "copyreg._reconstructor");
}

TEST_CASE("Unknown objects are found with the path to them") {
  const std::string made = global("m", "C") + ")\x81";
  CHECK(places_of(dict({str("a"), list({kNone, made})})) == "m.C at checkpoint['a'][1]");
  CHECK(places_of(made + dict({str("x"), call("m", "f", {integer(1)})}) + "b") ==
        "m.C at checkpoint; m.f at checkpoint.__dict__['x']");
  CHECK(places_of(call("m", "f", {global("m", "g")})) == "m.f at checkpoint; m.g at checkpoint.args[0]");
  CHECK(places_of(dict({tuple({integer(1), str("k")}), made})) == "m.C at checkpoint[(1, 'k')]");
  CHECK(places_of(ordered_dict() + dict({str("_metadata"), made}) + "b") == "m.C at checkpoint.__dict__['_metadata']");
  CHECK(places_of(made + "(" + made + "e").find("m.C at checkpoint[0]") != std::string::npos);
  CHECK(places_of(dict({str("w"), tensor()})).empty());
}

TEST_CASE("An object that is met twice is listed once, and cycles end") {
  const std::string made = global("m", "C") + ")\x81q\x05";
  CHECK(places_of(list({made, "h\x05"})) == "m.C at checkpoint[0]");
  CHECK(places_of(global("m", "C") + ")\x81q\x05}q\x06(" + str("self") + "h\x05ub") == "m.C at checkpoint");
}

TEST_CASE("A class that we know is listed as a value, and not within an unknown object") {
  CHECK(places_of(list({global("collections", "OrderedDict")})) == "collections.OrderedDict at checkpoint[0]");
  CHECK(places_of(call("m", "f", {global("collections", "OrderedDict")})) == "m.f at checkpoint");
}

TEST_CASE("A long list of unknown objects is cut, and long paths are short") {
  std::string many = "(";
  for (int i = 0; i < 3000; ++i) many += global("m", "f") + ")R";
  CHECK(find_opaque(read_graph(doc(many + "l")).root).size() == kMaxOpaquePlaces);
  std::string deep;
  for (int i = 0; i < 500; ++i) deep += "(";
  deep += global("m", "f") + ")R";
  for (int i = 0; i < 500; ++i) deep += "l";
  const std::string places = places_of(deep);
  CHECK(places.size() < 100);
  CHECK_THAT(places, ContainsSubstring("[0]...[0]"));
}

TEST_CASE("Objects and tensors of a graph stay where they are, whatever is made and moved") {
  ObjectGraph graph;
  std::vector<Object*> made;
  for (std::int64_t i = 0; i < 1000; ++i) {
    ObjectTensor tensor;
    tensor.sizes = {i, 2, 3, 4, 5, 6};
    made.push_back(graph.make(std::move(tensor)));
    made.push_back(graph.make(i));
  }
  const ObjectGraph moved = std::move(graph);
  CHECK(moved.objects.size() == 2000);
  for (std::size_t i = 0; i < 1000; ++i) {
    const auto n = static_cast<std::int64_t>(i);
    REQUIRE(made[2 * i]->get<ObjectTensor>()->sizes == Dims{n, 2, 3, 4, 5, 6});
    REQUIRE(*made[2 * i + 1]->get<std::int64_t>() == n);
    REQUIRE(&moved.objects[2 * i] == made[2 * i]);
  }
}

TEST_CASE("Steps of paths show keys as Python writes them, in one short line") {
  const auto step = [](const std::string& key) { return path_step("p", *read_graph(doc(key)).root); };
  CHECK(step(str("a'b\\\n\x01")) == "p['a\\'b\\\\\\n\\x01']");
  CHECK(step(integer(-3)) == "p[-3]");
  CHECK(step(number(2)) == "p[2.0]");
  CHECK(step(latin1_bytes("\xc3\xbf")) == "p[b'\\xff']");
  CHECK(step(global("torch", "float16")) == "p[torch.float16]");
  CHECK(step(str(std::string(59, 'a') + "\xc3\xa9" + "b")) == "p['" + std::string(59, 'a') + "...']");
  CHECK(step(tuple({tuple({integer(1)}), kNone, kNone, kNone, kNone})) == "p[(..., None, None, None, ...)]");
}
