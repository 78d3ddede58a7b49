// SPDX-License-Identifier: Apache-2.0
// The types that Python's checkpoints have beyond the plain ones: dictionaries' types, Size, sets, PyTorch's own,
// Opaque.
#include <torch/torch.h>

#include <sstream>

#include "ckptio/value.h"
#include "support/catch.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;
using ckptio::test::Equals;

namespace {

Dict typed(DictType type, Dict dict) {
  dict.set_type(type);
  return dict;
}

}  // namespace

TEST_CASE("A Dict keeps its type and attributes through copies and moves, and == does not see them", "[value]") {
  Dict ordered = typed(DictType::ordered_dict, {{"a", 1}});
  ordered.attributes()["_metadata"] = Dict{{"", Dict{{"version", 1}}}};
  Dict copy = ordered;
  CHECK(copy.type() == DictType::ordered_dict);
  CHECK(copy.attributes().at("_metadata").at("").at("version") == 1);
  copy.attributes()["_metadata"] = 2;
  CHECK(std::as_const(ordered).attributes().at("_metadata") != 2);
  CHECK(copy == Dict{{"a", 1}});
  const Value moved = Value(std::move(copy));
  CHECK(moved.as<Dict>().type() == DictType::ordered_dict);
  CHECK(moved.type_name() == std::string("OrderedDict"));
  ordered.clear();
  CHECK(Dict(ordered).type() == DictType::ordered_dict);
  ordered.set_type(DictType::dict);
  CHECK(std::as_const(ordered).attributes().empty());
  CHECK(Dict().type() == DictType::dict);
}

TEST_CASE("A plain dict has no attributes", "[value]") {
  Dict dict{{"a", 1}};
  CHECK(std::as_const(dict).attributes().empty());
  CHECK_THROWS_AS(dict.attributes(), TypeError);
}

TEST_CASE("Attributes know where they stand", "[value]") {
  Checkpoint checkpoint{{"state_dict", typed(DictType::ordered_dict, {})}};
  Dict& state_dict = checkpoint.at("state_dict").mutable_as<Dict>();
  state_dict.attributes()["_metadata"] = Dict{{"x", 1}};
  CHECK(state_dict.attributes().at("_metadata").at("x").path() ==
        "checkpoint['state_dict'].__dict__['_metadata']['x']");
}

TEST_CASE("A torch.Size is a tuple that remembers it", "[value]") {
  const Value size = Tuple::make_size({2, 3});
  CHECK(size.as<Tuple>().is_size());
  CHECK(size == Tuple{2, 3});
  CHECK(size.as<std::vector<std::int64_t>>() == std::vector<std::int64_t>{2, 3});
  CHECK(Value(size).as<Tuple>().is_size());
  CHECK(Tuple(Tuple::make_size({})).is_size());
  CHECK_FALSE(Value(Tuple{2, 3}).as<Tuple>().is_size());
  CHECK(size.type_name() == std::string("Size"));
}

TEST_CASE("A Set holds each item once, in any order for ==", "[value]") {
  Set set{1, "a", 1, Tuple{1}};
  CHECK(set.size() == 3);
  CHECK_FALSE(set.insert("a"));
  CHECK(set.insert(2.5));
  CHECK(set.contains(Tuple{1}));
  CHECK(set.erase(2.5));
  CHECK(set == Set{Tuple{1}, "a", 1});
  CHECK_FALSE(set == Set{1, "a"});
  CHECK_FALSE(Set{1} == Set::make_frozen({1}));
  CHECK_THROWS_AS(set.insert(List{}), TypeError);
  CHECK(set.size() == 3);
  std::size_t n_items = 0;
  for (const Value& item : set) n_items += set.contains(item) ? 1 : 0;
  CHECK(n_items == 3);
  const Value held = set;
  CHECK(held.contains("a"));
  CHECK(held.size() == 3);
}

TEST_CASE("What Python can hash is a key", "[value]") {
  const auto opaque = Opaque::make_object("a.B", {{"x", 1}});
  const std::vector<Value> keys{torch::kFloat,
                                c10::Device("cuda:1"),
                                c10::kSparse,
                                c10::kPerTensorAffine,
                                Set::make_frozen({1, 2}),
                                opaque,
                                Tuple{opaque, 1},
                                0};
  Dict dict;
  for (std::size_t i = 0; i < keys.size(); ++i) dict[keys[i]] = i;
  CHECK(dict.size() == keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) CHECK(dict.at(keys[i]) == i);
  CHECK(dict.at(Set::make_frozen({2, 1})) == 4);
  CHECK(Dict(dict) == dict);
  CHECK_THROWS_AS(dict[Set{1}], TypeError);
  CHECK_THROWS_AS(dict[ByteArray("a")], TypeError);
  CHECK_THROWS_AS((dict[TypedStorage{}]), TypeError);
}

TEST_CASE("Another Opaque that is equal is another key, and dicts of such keys are equal", "[value]") {
  const auto make = [] { return Opaque::make_object("a.B", {{"x", 1}}); };
  const Dict a{{make(), 1}, {Tuple{make()}, 2}};
  CHECK_FALSE(a.contains(make()));
  CHECK(a == Dict{{make(), 1}, {Tuple{make()}, 2}});
  CHECK_FALSE(a == Dict{{make(), 1}, {Tuple{make()}, 3}});
}

TEST_CASE("An Opaque says what it is made of", "[value]") {
  const auto tensor = torch::ones({2});
  const auto opaque = Opaque::make_object("argparse.Namespace", {{"lr", 0.1}, {"w", tensor}});
  CHECK(opaque.global() == "argparse.Namespace");
  CHECK(opaque.class_name() == "argparse.Namespace");
  CHECK_FALSE(opaque.is_global());
  CHECK(opaque.args().empty());
  CHECK(opaque.fields().at("lr") == 0.1);
  CHECK(opaque.fields().at("w") == tensor);
  CHECK(opaque.state() == Value(opaque.fields()));
  CHECK(opaque.same_object(Opaque(opaque)));
  CHECK_FALSE(opaque.same_object(Opaque::make_object("argparse.Namespace", {})));
  CHECK(Opaque::make_call("pathlib.PosixPath", {"/", "a"}).args() == Tuple{"/", "a"});
  CHECK_THROWS_AS(Opaque::make_object("Namespace", {}), ValueError);
  CHECK_THROWS_AS(Opaque::make_object(".Namespace", {}), ValueError);
}

TEST_CASE("Opaques are equal by what they are made of", "[value]") {
  const auto make = [](const Value& x) { return Opaque::make_object("a.B", {{"x", x}}); };
  CHECK(make(1) == make(1));
  CHECK(make(torch::ones({2})) == make(torch::ones({2})));
  CHECK(make(Set{1}) == make(Set{1}));
  CHECK(make(make(List{1})) == make(make(List{1})));
  CHECK_FALSE(make(1) == make(2));
  CHECK_FALSE(make(torch::ones({2})) == make(torch::zeros({2})));
  CHECK_FALSE(make(make(List{1})) == make(make(List{2})));
  CHECK_FALSE(make(1) == Opaque::make_object("a.C", {{"x", 1}}));
  CHECK_FALSE(make(1) == Opaque::make_call("a.B", {1}));
}

TEST_CASE("Storages are equal by type and bytes, nested tensors by their items", "[value]") {
  const auto tensor = torch::ones({2});
  const TypedStorage typed_storage{tensor.storage(), torch::kFloat};
  CHECK(typed_storage == TypedStorage{tensor.clone().storage(), torch::kFloat});
  CHECK_FALSE(typed_storage == TypedStorage{tensor.storage(), std::nullopt});
  CHECK_FALSE(typed_storage == TypedStorage{torch::zeros({2}).storage(), torch::kFloat});
  const auto nested = [](float x) {
    return Value(at::_nested_tensor_from_tensor_list({torch::full({2}, x), torch::full({3}, x)}));
  };
  CHECK(nested(1) == nested(1));
  CHECK_FALSE(nested(1) == nested(2));
  CHECK_FALSE(nested(1) == Value(torch::ones({5})));
  CHECK(to_string(nested(1)) == "Tensor(float32 nested)");
}

TEST_CASE("Python's types print as Python prints them", "[value]") {
  CHECK(to_string(typed(DictType::ordered_dict, {{"b", 1}})) == "OrderedDict({'b': 1})");
  CHECK(to_string(typed(DictType::counter, {{"a", 2}})) == "Counter({'a': 2})");
  CHECK(to_string(Tuple::make_size({2, 3})) == "torch.Size([2, 3])");
  CHECK(to_string(Set{1, "a"}) == "{1, 'a'}");
  CHECK(to_string(Set{}) == "set()");
  CHECK(to_string(Set::make_frozen({1})) == "frozenset({1})");
  CHECK(to_string(Set::make_frozen({})) == "frozenset()");
  CHECK(to_string(ByteArray("a\xff")) == "bytearray(b'a\\xff')");
  CHECK(to_string(List{torch::kBFloat16, c10::kSparse, c10::kPerTensorAffine}) ==
        "[torch.bfloat16, torch.sparse_coo, torch.per_tensor_affine]");
  CHECK(to_string(List{c10::Device("cuda:1"), c10::Device("cpu")}) ==
        "[device(type='cuda', index=1), device(type='cpu')]");
  CHECK(to_string(TypedStorage{torch::ones({2}).storage(), torch::kFloat}) == "TypedStorage(float32, 8 bytes)");
  CHECK(to_string(Opaque::make_object("a.B", {})) == "Opaque(a.B)");
}

TEST_CASE("Python's types survive the way to IValue and back", "[value]") {
  Dict ordered = typed(DictType::ordered_dict, {{"b", 1}, {"a", List{}}});
  ordered.attributes()["_metadata"] = Dict{{"", 1}};
  const List values{ordered,
                    typed(DictType::counter, {{"a", 2}, {1, 3}}),
                    Tuple::make_size({2, 3}),
                    Tuple::make_size({}),
                    Set{1, "a"},
                    Set::make_frozen({Tuple{1}}),
                    ByteArray("a\xff"),
                    torch::kFloat8_e5m2,
                    c10::Device("cuda:1"),
                    c10::kSparseBsc,
                    c10::kPerChannelAffine,
                    TypedStorage{torch::ones({2}).storage(), torch::kFloat},
                    TypedStorage{torch::ones({2}).storage(), std::nullopt}};
  const Value back = Value::from_ivalue(Value(values).to_ivalue());
  CHECK(back == values);
  CHECK(to_string(back) == to_string(values));
  CHECK(back.at(0).as<Dict>().attributes().at("_metadata") == Dict{{"", 1}});
}

TEST_CASE("An Opaque has no IValue, and the error lists each", "[value]") {
  const auto opaque = Opaque::make_object("a.B", {});
  const Value value = Dict{{"x", opaque}, {"y", List{1, opaque}}};
  CHECK_THROWS_AS(value.to_ivalue(), TypeError);
  CHECK_THROWS_WITH(value.to_ivalue(),
                    ContainsSubstring("checkpoint['x']: a.B") && ContainsSubstring("checkpoint['y'][1]: a.B"));
}

TEST_CASE("Asking for another type names Python's", "[value]") {
  const Checkpoint checkpoint{{"d", typed(DictType::ordered_dict, {})}, {"t", torch::kFloat}};
  CHECK_THROWS_WITH(checkpoint.at("d").as<Set>(), Equals("checkpoint['d']: is OrderedDict, asked for set"));
  CHECK_THROWS_WITH(checkpoint.at("t").as<Opaque>(), Equals("checkpoint['t']: is dtype, asked for Opaque"));
  CHECK(checkpoint.at("t").as<c10::ScalarType>() == torch::kFloat);
}
