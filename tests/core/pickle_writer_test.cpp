// SPDX-License-Identifier: Apache-2.0
// What is written as a pickle is read back as the same objects, and is what Python's pickler would write.
#include "codec/pickle_writer.h"

#include <random>
#include <string>

#include "ckptio/error.h"
#include "codec/pickle_reader.h"
#include "support/catch.h"
#include "support/random_seed.h"
#include "support/same_graph.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

std::string written(const ObjectGraph& graph, const Object* root) { return write_pickle(graph, *root).bytes; }

template <class T>
std::string written(T value) {
  ObjectGraph graph;
  return written(graph, graph.make(std::move(value)));
}

ObjectGraph read(const std::string& bytes) {
  ObjectGraph graph;
  REQUIRE(read_pickle(graph, memory_source("x.pkl", bytes.data(), bytes.size()), {}) == bytes.size());
  return graph;
}

void require_round_trip(const ObjectGraph& graph, const Object* root) {
  const std::string bytes = written(graph, root);
  const ObjectGraph again = read(bytes);
  CHECK(graph_difference(graph, *root, again, *again.root) == "");
  CHECK(written(again, again.root) == bytes);
}

// The characters of a literal, zeros too.
template <std::size_t n>
std::string bytes_of(const char (&text)[n]) {
  return {text, n - 1};
}

std::string pickle(const std::string& body) { return "\x80\x02" + body + "."; }

Object* text(ObjectGraph& graph, std::string utf8) { return graph.make(ObjectString{std::move(utf8)}); }

Object* list_of(ObjectGraph& graph, std::vector<Object*> items) { return graph.make(ObjectList{std::move(items)}); }

Object* tuple_of(ObjectGraph& graph, std::vector<Object*> items) {
  return graph.make(ObjectTuple{std::move(items), false});
}

Object* dense(ObjectGraph& graph, std::uint32_t storage, DType dtype, std::vector<std::int64_t> sizes) {
  ObjectTensor tensor;
  tensor.dtype = dtype;
  tensor.storage = storage;
  tensor.strides.resize(sizes.size());
  std::int64_t stride = 1;
  for (std::size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) tensor.strides[i] = stride;
  tensor.sizes = std::move(sizes);
  return graph.make(std::move(tensor));
}

std::uint32_t add_storage(ObjectGraph& graph, DType dtype, std::uint64_t n_bytes) {
  const bool untyped = dtype_info(dtype).storage_class.empty();
  graph.storages.push_back(
      {"k" + std::to_string(graph.storages.size()), "cpu", untyped ? DType::uint8 : dtype, untyped, n_bytes});
  return static_cast<std::uint32_t>(graph.storages.size() - 1);
}

Object* opaque(ObjectGraph& graph, const std::string& module, const std::string& name, std::vector<Object*> args) {
  ObjectOpaque made;
  made.callable = graph.make(ObjectGlobal{module, name});
  made.args = tuple_of(graph, std::move(args));
  return graph.make(std::move(made));
}

}  // namespace

TEST_CASE("PickleWriter.NumbersTakeTheShortestFormThatLibTorchReads", "[pickle]") {
  CHECK(written(std::int64_t{0}) == pickle(bytes_of("K\0")));
  CHECK(written(std::int64_t{255}) == pickle("K\xff"));
  CHECK(written(std::int64_t{256}) == pickle(bytes_of("M\0\1")));
  CHECK(written(std::int64_t{65536}) == pickle(bytes_of("J\0\0\1\0")));
  CHECK(written(std::int64_t{-1}) == pickle("J\xff\xff\xff\xff"));
  CHECK(written(std::int64_t{1} << 31) == pickle(bytes_of("\x8a\x08\0\0\0\x80\0\0\0\0")));
  CHECK(written(-(std::int64_t{1} << 40)) == pickle(bytes_of("\x8a\x08\0\0\0\0\0\xff\xff\xff")));
  CHECK(written(ObjectBigInt{bytes_of("\0\0\0\0\0\0\0\0\1")}) == pickle(bytes_of("\x8a\x09\0\0\0\0\0\0\0\0\1")));
  CHECK(written(ObjectBigInt{std::string(256, '\1')}) == pickle(bytes_of("\x8b\0\1\0\0") + std::string(256, '\1')));
  CHECK(written(1.5) == pickle(bytes_of("G\x3f\xf8\0\0\0\0\0\0")));
  CHECK(written(true) == pickle("\x88"));
  CHECK(written(ObjectNone{}) == pickle("N"));
}

TEST_CASE("PickleWriter.KnownTypesAreWrittenAsPythonWritesThem", "[pickle]") {
  CHECK(written(ObjectString{"\xc3\xa9"}) == pickle(bytes_of("X\2\0\0\0\xc3\xa9")));
  CHECK(written(ObjectBytes{"a\xff"}) ==
        pickle(bytes_of("c_codecs\nencode\nq\0X\3\0\0\0a\xc3\xbfX\6\0\0\0latin1q\1\x86R")));
  CHECK(written(DType::bfloat16) == pickle(bytes_of("ctorch\nbfloat16\nq\0")));
  CHECK(written(LayoutKind::sparse_csr) ==
        pickle(bytes_of("ctorch.serialization\n_get_layout\nq\0X\x10\0\0\0torch.sparse_csrq\1\x85R")));
  CHECK(written(ObjectDevice{"cuda:1"}) == pickle(bytes_of("ctorch\ndevice\nq\0X\4\0\0\0cudaq\1K\1\x86R")));
  CHECK(written(ObjectSet{}) == pickle(bytes_of("c__builtin__\nset\nq\0]\x85R")));
  CHECK(written(ObjectDict{{}, nullptr, DictType::ordered_dict}) ==
        pickle(bytes_of("ccollections\nOrderedDict\nq\0)R")));
}

TEST_CASE("PickleWriter.ATensorIsACallOfTorchsFunction", "[pickle]") {
  ObjectGraph graph;
  Object* tensor = dense(graph, add_storage(graph, DType::float32, 24), DType::float32, {2, 3});
  const WrittenPickle pickled = write_pickle(graph, *tensor);
  CHECK(pickled.bytes ==
        pickle(bytes_of("ctorch._utils\n_rebuild_tensor_v2\nq\0((X\7\0\0\0storageq\1ctorch\nFloatStorage\nq\2X\1\0\0\0"
                        "0X\3\0\0\0cpuq\3K\6tQK\0K\2K\3\x86K\3K\1\x86\x89"
                        "ccollections\nOrderedDict\nq\4)RtR")));
  CHECK(pickled.storage_order == std::vector<std::uint32_t>{0});
}

TEST_CASE("PickleWriter.StoragesAreNumberedInTheOrderOfFirstUse", "[pickle]") {
  ObjectGraph graph;
  for (int i = 0; i < 3; ++i) add_storage(graph, DType::float32, 4);
  Object* root = list_of(graph, {dense(graph, 2, DType::float32, {1}), dense(graph, 0, DType::float32, {1}),
                                 dense(graph, 2, DType::float32, {})});
  CHECK(write_pickle(graph, *root).storage_order == std::vector<std::uint32_t>{2, 0});
  require_round_trip(graph, root);
}

TEST_CASE("PickleWriter.ATensorOfAnotherTypeThanItsStorageNamesItsType", "[pickle]") {
  ObjectGraph graph;
  const std::uint32_t storage = add_storage(graph, DType::float32, 8);
  Object* root = list_of(graph, {dense(graph, storage, DType::float32, {2}), dense(graph, storage, DType::int64, {1})});
  require_round_trip(graph, root);
}

TEST_CASE("PickleWriter.EveryFormOfTensorIsReadBack", "[pickle]") {
  ObjectGraph graph;
  const std::uint32_t floats = add_storage(graph, DType::float32, 64), longs = add_storage(graph, DType::int64, 64);
  const std::uint32_t small = add_storage(graph, DType::uint16, 8), codes = add_storage(graph, DType::qint8, 6);
  std::vector<Object*> all;
  all.push_back(dense(graph, small, DType::uint16, {4}));
  Object* complex = dense(graph, add_storage(graph, DType::complex64, 16), DType::complex64, {2});
  complex->get<ObjectTensor>()->conj = complex->get<ObjectTensor>()->neg = true;
  all.push_back(complex);
  for (const bool has_state : {false, true}) {
    for (const bool is_parameter : {false, true}) {
      Object* tensor = dense(graph, floats, DType::float32, {2, 2});
      tensor->get<ObjectTensor>()->requires_grad = true;
      tensor->get<ObjectTensor>()->is_parameter = is_parameter;
      if (has_state) {
        tensor->get<ObjectTensor>()->attributes = graph.make(ObjectDict{{{text(graph, "tag"), text(graph, "x")}}});
      }
      all.push_back(tensor);
    }
  }
  ObjectTensor meta;
  meta.form = ObjectTensor::Form::meta;
  meta.sizes = {1000, 1000}, meta.strides = {1000, 1};
  all.push_back(graph.make(std::move(meta)));
  ObjectTensor coo;
  coo.form = ObjectTensor::Form::sparse_coo, coo.layout = LayoutKind::sparse_coo;
  coo.sizes = {4, 4}, coo.is_coalesced = true;
  coo.parts = {dense(graph, longs, DType::int64, {2, 3}), dense(graph, floats, DType::float32, {3})};
  all.push_back(graph.make(std::move(coo)));
  ObjectTensor csr;
  csr.form = ObjectTensor::Form::sparse_compressed, csr.layout = LayoutKind::sparse_csr;
  csr.sizes = {2, 4};
  csr.parts = {dense(graph, longs, DType::int64, {3}), dense(graph, longs, DType::int64, {2}),
               dense(graph, floats, DType::float32, {2})};
  all.push_back(graph.make(std::move(csr)));
  Object* quantized = dense(graph, codes, DType::qint8, {2, 3});
  quantized->get<ObjectTensor>()->form = ObjectTensor::Form::quantized;
  quantized->get<ObjectTensor>()->scale = 0.25;
  quantized->get<ObjectTensor>()->zero_point = 3;
  all.push_back(quantized);
  Object* per_channel = dense(graph, codes, DType::qint8, {2, 3});
  per_channel->get<ObjectTensor>()->form = ObjectTensor::Form::quantized;
  per_channel->get<ObjectTensor>()->qscheme = QSchemeKind::per_channel_affine;
  per_channel->get<ObjectTensor>()->parts = {dense(graph, floats, DType::float32, {2}),
                                             dense(graph, longs, DType::int64, {2})};
  all.push_back(per_channel);
  ObjectTensor nested;
  nested.form = ObjectTensor::Form::nested;
  nested.parts = {dense(graph, floats, DType::float32, {5}), dense(graph, longs, DType::int64, {2, 1}),
                  dense(graph, longs, DType::int64, {2, 1}), dense(graph, longs, DType::int64, {2})};
  all.push_back(graph.make(std::move(nested)));
  all.push_back(graph.make(ObjectStorage{floats}));
  all.push_back(graph.make(ObjectStorage{small}));
  all.push_back(graph.make(QSchemeKind::per_tensor_affine));
  require_round_trip(graph, list_of(graph, all));
}

TEST_CASE("PickleWriter.OnlyWhatIsUsedAgainIsMemoized", "[pickle]") {
  ObjectGraph graph;
  Object* inner = list_of(graph, {});
  CHECK(written(graph, list_of(graph, {inner})) == pickle("]]a"));
  CHECK(written(graph, list_of(graph, {inner, inner})) == pickle(bytes_of("](]q\0h\0e")));
  CHECK(written(graph, tuple_of(graph, {text(graph, "a"), text(graph, "a")})) ==
        pickle(bytes_of("X\1\0\0\0aq\0h\0\x86")));
}

TEST_CASE("PickleWriter.LongContainersAreWrittenInBatches", "[pickle]") {
  ObjectGraph graph;
  Object* list = list_of(graph, std::vector<Object*>(2001, graph.make(true)));
  const std::string batch = "(" + std::string(1000, '\x88') + "e";
  CHECK(written(graph, list) == pickle("]" + batch + batch +
                                       "\x88"
                                       "a"));
  ObjectDict dict;
  for (std::int64_t i = 0; i < 2500; ++i) dict.items.emplace_back(graph.make(i), graph.make(-i));
  require_round_trip(graph, list_of(graph, {list, graph.make(std::move(dict))}));
}

TEST_CASE("PickleWriter.CyclesStayCycles", "[pickle]") {
  ObjectGraph graph;
  Object* list = list_of(graph, {});
  SECTION("a list in itself") { list->get<ObjectList>()->items = {list, list}; }
  SECTION("a dict in itself") {
    Object* dict = graph.make(ObjectDict{});
    dict->get<ObjectDict>()->items.emplace_back(text(graph, "self"), dict);
    dict->get<ObjectDict>()->items.emplace_back(text(graph, "list"), list);
    list->get<ObjectList>()->items = {dict};
  }
  SECTION("an OrderedDict in its own attributes") {
    Object* dict = graph.make(ObjectDict{{}, nullptr, DictType::ordered_dict});
    dict->get<ObjectDict>()->attributes = graph.make(ObjectDict{{{text(graph, "me"), dict}}});
    list->get<ObjectList>()->items = {dict};
  }
  SECTION("a tuple, through a list, from the tuple") {
    Object* tuple = tuple_of(graph, {list_of(graph, {}), graph.make(std::int64_t{1})});
    tuple->get<ObjectTuple>()->items[0]->get<ObjectList>()->items = {tuple};
    list->get<ObjectList>()->items = {tuple};
  }
  SECTION("a long tuple, through two lists") {
    Object* first = list_of(graph, {});
    Object* second = list_of(graph, {});
    Object* tuple = tuple_of(graph, {first, second, graph.make(true), graph.make(true)});
    first->get<ObjectList>()->items = second->get<ObjectList>()->items = {tuple};
    list->get<ObjectList>()->items = {tuple, second};
  }
  SECTION("an object in its state") {
    Object* object = opaque(graph, "m", "C", {});
    object->get<ObjectOpaque>()->state = graph.make(ObjectDict{{{text(graph, "me"), object}}});
    list->get<ObjectList>()->items = {object, object};
  }
  SECTION("an object in its arguments, with items and state") {
    Object* inside = list_of(graph, {});
    Object* object = opaque(graph, "m", "C", {inside});
    inside->get<ObjectList>()->items = {object};
    object->get<ObjectOpaque>()->items = {graph.make(true)};
    object->get<ObjectOpaque>()->state = list_of(graph, {object});
    list->get<ObjectList>()->items = {object};
  }
  SECTION("a set, through an object that it holds") {
    Object* object = opaque(graph, "m", "C", {});
    Object* set = graph.make(ObjectSet{{object}, false});
    object->get<ObjectOpaque>()->state = set;
    list->get<ObjectList>()->items = {set};
  }
  require_round_trip(graph, list);
}

TEST_CASE("PickleWriter.ObjectsOfUnknownTypesAreMadeByTheSameSteps", "[pickle]") {
  ObjectGraph graph;
  Object* object = opaque(graph, "collections", "deque", {graph.make(std::int64_t{1})});
  auto* made = object->get<ObjectOpaque>();
  SECTION("called") {}
  SECTION("made by __new__") { made->make = ObjectOpaque::Make::new_object; }
  SECTION("made by __new__ with keywords") {
    made->make = ObjectOpaque::Make::new_object_ex;
    made->kwargs = graph.make(ObjectDict{{{text(graph, "key"), graph.make(true)}}});
  }
  SECTION("filled in every way") {
    made->items = {graph.make(true), graph.make(false)};
    made->entries = {{text(graph, "a"), graph.make(true)}};
    made->state = graph.make(ObjectDict{{{text(graph, "b"), graph.make(ObjectGlobal{"m", "f"})}}});
  }
  require_round_trip(graph, object);
}

TEST_CASE("PickleWriter.GlobalsHaveTheNamesOfPython2", "[pickle]") {
  CHECK(written(ObjectGlobal{"builtins", "range"}) == pickle(bytes_of("c__builtin__\nxrange\nq\0")));
  CHECK(written(ObjectGlobal{"builtins", "PermissionError"}) == pickle(bytes_of("c__builtin__\nPermissionError\nq\0")));
  CHECK(written(ObjectGlobal{"builtins", "ValueError"}) == pickle(bytes_of("cexceptions\nValueError\nq\0")));
  CHECK(written(ObjectGlobal{"functools", "reduce"}) == pickle(bytes_of("c__builtin__\nreduce\nq\0")));
  CHECK(written(ObjectGlobal{"functools", "partial"}) == pickle(bytes_of("cfunctools\npartial\nq\0")));
  CHECK(written(ObjectGlobal{"m", "Outer.Inner"}) ==
        pickle(bytes_of("c__builtin__\ngetattr\nq\0cm\nOuter\nq\1X\5\0\0\0Innerq\2\x86Rq\3")));
  CHECK(written(ObjectGlobal{"m", "odd\nname"}) == pickle(bytes_of("X\1\0\0\0mX\x08\0\0\0odd\nname\x93q\0")));
  // Python takes commands.f for subprocess.f in a pickle of protocol 2.
  CHECK_THROWS_AS(written(ObjectGlobal{"commands", "f"}), UnsupportedError);
}

TEST_CASE("PickleWriter.ObjectsAsDeepAsTheyCanBeAreWritten", "[pickle]") {
  ObjectGraph graph;
  Object* root = graph.make(true);
  for (int i = 0; i < 200000; ++i) root = i % 2 == 0 ? list_of(graph, {root}) : tuple_of(graph, {root});
  CHECK(written(graph, root).size() == 2 + 100000 * 3 + 1 + 1);
}

TEST_CASE("PickleWriter.AGraphThatNothingCouldMakeIsRefused", "[pickle]") {
  ObjectGraph graph;
  Object* tuple = tuple_of(graph, {graph.make(true)});
  tuple->get<ObjectTuple>()->items[0] = tuple;
  CHECK_THROWS_AS(written(graph, tuple), UnsupportedError);
  CHECK_THROWS_AS(written(graph, list_of(graph, {nullptr})), ValueError);
  CHECK_THROWS_AS(written(graph, dense(graph, 7, DType::float32, {})), ValueError);
}

TEST_CASE("PickleWriter.ObjectsThatHoldEachOtherInManyWaysTakeBoundedTime", "[pickle]") {
  ObjectGraph graph;
  std::vector<Object*> lists;
  for (int i = 0; i < 3000; ++i) lists.push_back(list_of(graph, {}));
  Object* tuple = tuple_of(graph, lists);
  for (Object* list : lists) list->get<ObjectList>()->items = {tuple};
  CHECK_THROWS_AS(written(graph, tuple), UnsupportedError);
}

namespace {

// Graphs of all kinds of objects, with shared ones and cycles through lists, dicts and objects' states.
class RandomGraph {
 public:
  explicit RandomGraph(unsigned seed) : random_(seed) {
    for (int i = 0; i < 4; ++i) add_storage(graph, pick({DType::float32, DType::int64, DType::uint16}), 64);
    graph.root = make(4);
    for (Object* open : open_) {
      if (chance(4)) continue;
      Object* target = shared_[below(shared_.size())];
      if (auto* list = open->get<ObjectList>()) list->items.push_back(target);
      if (auto* dict = open->get<ObjectDict>()) dict->items.emplace_back(text(graph, "cycle"), target);
      if (auto* object = open->get<ObjectOpaque>()) object->state = target;
    }
  }
  ObjectGraph graph;

 private:
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }
  bool chance(std::size_t n) { return below(n) == 0; }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(values.size())];
  }
  Object* share(Object* object) {
    shared_.push_back(object);
    return object;
  }
  Object* open(Object* object) {
    open_.push_back(object);
    return share(object);
  }
  std::vector<Object*> some(int depth) {
    std::vector<Object*> items;
    for (std::size_t n = below(6); n > 0; --n) items.push_back(make(depth - 1));
    return items;
  }
  Object* leaf() {
    switch (below(10)) {
      case 0:
        return graph.make(ObjectNone{});
      case 1:
        return graph.make(chance(2));
      case 2:
        return graph.make(static_cast<std::int64_t>(random_() << below(60)));
      case 3:
        return graph.make(std::bit_cast<double>(random_()));
      case 4:
        return text(graph, "t" + std::to_string(below(4)));
      case 5:
        return graph.make(ObjectBytes{std::string(below(4), static_cast<char>(random_()))});
      case 6:
        return share(graph.make(ObjectByteArray{std::string(below(3), 'b')}));
      case 7:
        return graph.make(std::complex<double>(1, -0.0));
      case 8:
        return graph.make(pick({DType::float32, DType::uint64}));
      default:
        return graph.make(ObjectGlobal{"module", "name" + std::to_string(below(3))});
    }
  }
  Object* tensor() {
    const auto storage = static_cast<std::uint32_t>(below(graph.storages.size()));
    const StorageInfo& info = graph.storages[storage];
    Object* made = dense(graph, storage, info.untyped ? DType::uint16 : info.dtype, {2, 2});
    made->get<ObjectTensor>()->is_parameter = !info.untyped && info.dtype == DType::float32 && chance(3);
    made->get<ObjectTensor>()->offset = static_cast<std::int64_t>(below(4));
    return share(made);
  }
  Object* dict(int depth) {
    ObjectDict made;
    made.type = pick({DictType::dict, DictType::ordered_dict, DictType::counter});
    for (std::size_t n = below(5); n > 0; --n) made.items.emplace_back(graph.make(std::int64_t(n)), make(depth - 1));
    if (made.type == DictType::ordered_dict && chance(2)) {
      made.attributes = graph.make(ObjectDict{{{text(graph, "_metadata"), make(depth - 1)}}});
    }
    return open(graph.make(std::move(made)));
  }
  Object* make(int depth) {
    if (!shared_.empty() && chance(5)) return shared_[below(shared_.size())];
    if (depth == 0) return leaf();
    switch (below(7)) {
      case 0:
        return leaf();
      case 1:
        return tensor();
      case 2:
        return dict(depth);
      case 3:
        return share(tuple_of(graph, some(depth)));
      case 4: {
        Object* object = opaque(graph, "module", "Class", some(depth));
        object->get<ObjectOpaque>()->items = some(depth);
        return open(object);
      }
      case 5:
        return share(graph.make(ObjectSet{{text(graph, "x"), graph.make(std::int64_t{3})}, chance(2)}));
      default:
        return open(list_of(graph, some(depth)));
    }
  }

  std::mt19937_64 random_;
  std::vector<Object*> shared_, open_;
};

}  // namespace

TEST_CASE("PickleWriter.RandomGraphsAreReadBackAsTheyWere", "[pickle]") {
  const unsigned seed = random_seed();
  for (unsigned i = 0; i < 1000; ++i) {
    const RandomGraph random(seed + i);
    INFO("graph " << i);
    try {
      const std::string bytes = written(random.graph, random.graph.root);
      const ObjectGraph again = read(bytes);
      REQUIRE(graph_difference(random.graph, *random.graph.root, again, *again.root) == "");
    } catch (const UnsupportedError&) {
      // Too many ways to hold each other: allowed, and rare.
    }
  }
}
