// SPDX-License-Identifier: Apache-2.0
#include "ckptio/value.h"

#include <torch/torch.h>

#include <limits>
#include <map>
#include <sstream>

#include "support/catch.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;
using ckptio::test::Equals;

namespace {

Checkpoint nested() {
  return {{"epoch", 3},
          {"optimizer_states", List{Dict{{"lr", 1}, {"betas", Tuple{0.9, 0.999}}}}},
          {"state_dict", Dict{{"weight", torch::ones({2, 3})}}}};
}

}  // namespace

TEST_CASE("Values are made from every plain C++ type", "[value]") {
  CHECK(Value().is_null());
  CHECK(Value(nullptr).is_null());
  CHECK(Value(std::nullopt).is_null());
  CHECK(Value(true).is<bool>());
  CHECK(Value(std::int8_t{-3}).as<int64_t>() == -3);
  CHECK(Value(std::uint16_t{3}).as<int64_t>() == 3);
  CHECK(Value(7L).as<int>() == 7);
  CHECK(Value(8ULL).as<std::size_t>() == 8);
  CHECK(Value(0.5f).as<double>() == 0.5);
  CHECK(Value(std::complex<double>(1, -2)).as<std::complex<double>>() == std::complex<double>(1, -2));
  CHECK(Value("text").as<std::string>() == "text");
  CHECK(Value(std::string_view("text")).as<std::string_view>() == "text");
  CHECK(Value(Bytes("\0\xff", 2)).as<Bytes>().size() == 2);
  CHECK(Value(torch::ones({2})).as<at::Tensor>().numel() == 2);
  CHECK(Value(List{1, "a"}).size() == 2);
  CHECK(Value(Tuple{}).size() == 0);
  CHECK(Value(Dict{{"a", 1}}).contains("a"));
}

TEST_CASE("A character is neither a string nor a number", "[value]") {
  CHECK_FALSE(std::is_constructible_v<Value, char>);
  CHECK_FALSE(std::is_constructible_v<Value, void*>);
}

TEST_CASE("Integers above INT64_MAX become big integers", "[value]") {
  const Value big(std::numeric_limits<std::uint64_t>::max());
  CHECK(big.is<BigInt>());
  CHECK(to_string(big) == "18446744073709551615");
  CHECK(big.as<std::uint64_t>() == std::numeric_limits<std::uint64_t>::max());
  CHECK_THROWS_AS(big.as<std::int64_t>(), ValueError);
  CHECK(Value(BigInt("9223372036854775807")).is<std::int64_t>());
  CHECK(Value(BigInt("-9223372036854775808")).as<int64_t>() == std::numeric_limits<std::int64_t>::min());
  CHECK(BigInt("-9223372036854775809").to_string() == "-9223372036854775809");
  CHECK(BigInt("123456789012345678901234567890").to_string() == "123456789012345678901234567890");
  CHECK(BigInt("-256").twos_complement() == std::vector<std::uint8_t>{0, 0xff});
  CHECK(BigInt("0").to_string() == "0");
  CHECK_THROWS_AS(BigInt("12x"), ValueError);
  CHECK_THROWS_AS(BigInt(""), ValueError);
}

TEST_CASE("A Dict keeps the order of insertion", "[value]") {
  Dict dict{{"z", 1}, {"a", 2}};
  dict["m"] = 3;
  dict["z"] = 4;
  std::string keys;
  for (const auto& [key, value] : dict) keys += key.as<std::string>();
  CHECK(keys == "zam");
  CHECK(dict.at("z") == 4);
  CHECK(dict.erase("a"));
  CHECK_FALSE(dict.erase("a"));
  CHECK(to_string(dict) == "{'z': 4, 'm': 3}");
}

TEST_CASE("Any plain value is a key, and types of keys differ", "[value]") {
  Dict dict;
  const std::vector<Value> keys{1,
                                true,
                                1.0,
                                "1",
                                nullptr,
                                Bytes("1"),
                                Tuple{1, "x"},
                                BigInt("18446744073709551616"),
                                std::complex<double>(1, 0)};
  for (std::size_t i = 0; i < keys.size(); ++i) dict[keys[i]] = i;
  CHECK(dict.size() == keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) CHECK(dict.at(keys[i]) == i);
  CHECK_THROWS_AS(dict[List{}], TypeError);
  CHECK_THROWS_AS(dict[Dict{}], TypeError);
  CHECK_THROWS_AS(dict[torch::ones({1})], TypeError);
  CHECK_THROWS_AS((dict[Tuple{List{}}]), TypeError);
  CHECK(dict.size() == keys.size());
}

TEST_CASE("A large Dict finds its keys after erasing", "[value]") {
  Dict dict;
  for (int i = 0; i < 5000; ++i) dict["t" + std::to_string(i)] = i;
  for (int i = 0; i < 5000; i += 2) dict.erase("t" + std::to_string(i));
  CHECK(dict.size() == 2500);
  for (int i = 1; i < 5000; i += 2) REQUIRE(dict.at("t" + std::to_string(i)) == i);
}

TEST_CASE("Containers are deep-copied, tensors are handles", "[value]") {
  const Checkpoint original = nested();
  Checkpoint copy = original;
  copy["optimizer_states"][0]["lr"] = 5;
  copy["state_dict"]["bias"] = 1;
  CHECK(original.at("optimizer_states").at(0).at("lr") == 1);
  CHECK_FALSE(original.at("state_dict").contains("bias"));
  copy.at("state_dict").at("weight").as<at::Tensor>().zero_();
  CHECK(original.at("state_dict").at("weight").as<at::Tensor>().sum().item<double>() == 0);
}

TEST_CASE("A value can be assigned from inside itself", "[value]") {
  Value value = Dict{{"inner", List{1, 2}}};
  value = value.at("inner");
  CHECK(value == List{1, 2});
  Value moved = Dict{{"inner", List{1, 2}}};
  moved = std::move(moved["inner"]);
  CHECK(moved == List{1, 2});
  List list{List{1}, 2};
  list = List(list.at(0).as<List>());
  CHECK(list == List{1});
}

TEST_CASE("Reading another type names the path, the type held and the type asked for", "[value]") {
  const Checkpoint checkpoint = nested();
  const Value& lr = checkpoint.at("optimizer_states").at(0).at("lr");
  CHECK_THROWS_WITH(lr.as<std::string>(), Equals("checkpoint['optimizer_states'][0]['lr']: is int, asked for str"));
  CHECK_THROWS_AS(lr.as<std::string>(), TypeError);
  CHECK_THROWS_WITH(checkpoint.at("optimizer_states").as<List>().at(0).as<Dict>().at("betas").as<Dict>(),
                    Equals("checkpoint['optimizer_states'][0]['betas']: is tuple, asked for dict"));
  CHECK_THROWS_WITH(Value(nullptr).as<bool>(), Equals("value: is None, asked for bool"));
  CHECK_THROWS_WITH(checkpoint.at("epoch").at("x"), Equals("checkpoint['epoch']: is int, has no entry 'x'"));
  CHECK_THROWS_AS(Value(true).as<int>(), TypeError);
  CHECK_THROWS_AS(Value(1).as<bool>(), TypeError);
  CHECK_THROWS_AS(Value(1.0).as<int>(), TypeError);
  CHECK(Value(1).as<double>() == 1.0);
}

TEST_CASE("Paths stay right when containers are copied, moved, grown and assigned", "[value]") {
  Checkpoint checkpoint;
  checkpoint["list"] = List{};
  for (int i = 0; i < 40; ++i) checkpoint["list"].mutable_as<List>().push_back(Dict{{"i", i}});
  CHECK(checkpoint.at("list").at(7).at("i").path() == "checkpoint['list'][7]['i']");
  const Checkpoint moved = std::move(checkpoint);
  CHECK(moved.at("list").at(39).at("i").path() == "checkpoint['list'][39]['i']");
  Checkpoint outer{{"inner", moved}};
  CHECK(outer.at("inner").at("list").at(1).path() == "checkpoint['inner']['list'][1]");
  CHECK(moved.at("list").at(1).path() == "checkpoint['list'][1]");
  outer["inner"]["list"][1] = List{Tuple{1}};
  CHECK(outer.at("inner").at("list").at(1).at(0).at(0).path() == "checkpoint['inner']['list'][1][0][0]");
  const Value taken = std::move(outer["inner"]["list"]);
  CHECK(taken.at(3).at("i").path() == "value[3]['i']");
  std::swap(outer["inner"], outer["other"]);
  CHECK(outer.at("other").path() == "checkpoint['other']");
  outer["a"]["b"]["c"] = 1;
  CHECK(outer.at("a").at("b").at("c").path() == "checkpoint['a']['b']['c']");
}

TEST_CASE("A missing key lists the keys there are, near names first", "[value]") {
  const Checkpoint checkpoint = nested();
  CHECK_THROWS_AS(checkpoint.at("state_dct"), KeyError);
  CHECK_THROWS_WITH(checkpoint.at("state_dct"),
                    Equals("checkpoint: no key 'state_dct'; did you mean 'state_dict'? keys: 'state_dict', 'epoch', "
                           "'optimizer_states'"));
  CHECK_THROWS_WITH(checkpoint.at("optimizer_states").at(0).at("xyzzy"),
                    Equals("checkpoint['optimizer_states'][0]: no key 'xyzzy'; keys: 'lr', 'betas'"));
  CHECK_THROWS_WITH(Dict().at("x"), Equals("checkpoint: no key 'x'; it is empty"));
  CHECK_THROWS_AS(checkpoint.at("optimizer_states").at(1), IndexError);
  CHECK_THROWS_WITH(checkpoint.at("optimizer_states").at(1),
                    Equals("checkpoint['optimizer_states']: no item 1, there are 1"));
  Dict large;
  for (int i = 0; i < 1000; ++i) large["t" + std::to_string(i)] = i;
  CHECK_THROWS_WITH(large.at("u"), ContainsSubstring("(1000 in all)"));
  const Dict& constant = large;
  CHECK_THROWS_AS(constant["u"], KeyError);
}

TEST_CASE("Negative positions count from the end", "[value]") {
  const List list{1, 2, 3};
  CHECK(list.at(-1) == 3);
  CHECK(list[0] == 1);
  CHECK_THROWS_AS(list.at(-4), IndexError);
}

TEST_CASE("Items convert as a whole", "[value]") {
  const Value value = List{1, 2.5, 3};
  CHECK(value.as<std::vector<double>>() == std::vector<double>{1, 2.5, 3});
  CHECK_THROWS_WITH(value.as<std::vector<std::string>>(), Equals("value[0]: is int, asked for str"));
  CHECK(Value().as<std::optional<std::string>>() == std::nullopt);
  CHECK(Value("x").as<std::optional<std::string>>() == "x");
  CHECK_THROWS_AS(Value(300).as<std::uint8_t>(), ValueError);
  CHECK_THROWS_AS(Value(-1).as<unsigned>(), ValueError);
}

TEST_CASE("Equality is deep and by content", "[value]") {
  CHECK(nested() == nested());
  CHECK(Dict{{"a", 1}, {"b", 2}} == Dict{{"b", 2}, {"a", 1}});
  CHECK_FALSE(Value(1) == Value(1.0));
  CHECK_FALSE(Value(1) == Value(true));
  CHECK_FALSE(Value(List{1}) == Value(Tuple{1}));
  CHECK(Value(std::nan("")) == Value(std::nan("")));
  CHECK(Value(0.0) == Value(-0.0));
  CHECK_FALSE(Value("a") == Value(Bytes("a")));
  const auto tensor = torch::arange(6, torch::kFloat).view({2, 3});
  CHECK(Value(tensor) == Value(tensor.t().contiguous().t()));
  CHECK_FALSE(Value(tensor) == Value(tensor.view({3, 2})));
  CHECK_FALSE(Value(tensor) == Value(tensor.to(torch::kDouble)));
  CHECK_FALSE(Value(tensor) == Value(tensor + 1));
  CHECK(Value(at::Tensor()) == Value(at::Tensor()));
  CHECK_FALSE(Value(at::Tensor()) == Value(tensor));
  const auto expanded = [](float x) { return Value(torch::full({1}, x).expand({std::int64_t{1} << 60})); };
  CHECK(expanded(1) == expanded(1));
  CHECK_FALSE(expanded(1) == expanded(2));
  const auto nan = torch::full({2}, std::nan(""));
  CHECK(Value(nan) == Value(nan.clone()));
  CHECK(Value(torch::zeros({2})) == Value(-torch::zeros({2})));
  CHECK(Value(torch::eye(3).to_sparse()) == Value(torch::eye(3).to_sparse()));
  CHECK_FALSE(Value(torch::eye(3).to_sparse()) == Value(torch::eye(3)));
  CHECK(Value(torch::ones({2}, torch::kFloat8_e5m2)) == Value(torch::ones({2}, torch::kFloat8_e5m2)));
}

TEST_CASE("Values print as Python prints them", "[value]") {
  std::ostringstream out;
  out << Checkpoint{{"epoch", 3},
                    {"lr", 0.1},
                    {"tiny", 1e-5},
                    {"one", 1.0},
                    {"none", nullptr},
                    {"yes", true},
                    {"s", "it's\n"},
                    {"b", Bytes("\x00q", 2)},
                    {"t", Tuple{1}},
                    {"l", List{1, "a"}},
                    {3, Dict{}},
                    {"c", std::complex<double>(1, -2)},
                    {"w", torch::ones({2, 3}, torch::kBFloat16)}};
  CHECK(out.str() ==
        "{'epoch': 3, 'lr': 0.1, 'tiny': 1e-05, 'one': 1.0, 'none': None, 'yes': True, 's': \"it's\\n\", "
        "'b': b'\\x00q', 't': (1,), 'l': [1, 'a'], 3: {}, 'c': (1.0-2.0j), 'w': Tensor(bfloat16 [2, 3])}");
}

TEST_CASE("Plain values map to IValues naturally and come back", "[value]") {
  const Checkpoint original = nested();
  const c10::IValue ivalue = Value(original).to_ivalue();
  CHECK(ivalue.toGenericDict().at("epoch").toInt() == 3);
  CHECK(ivalue.toGenericDict().at("optimizer_states").toListRef()[0].toGenericDict().at("betas").isTuple());
  CHECK(Value::from_ivalue(ivalue) == original);
}

TEST_CASE("What TorchScript lacks survives the way to IValue and back", "[value]") {
  const List values{Bytes("\0\xff", 2),
                    BigInt("-18446744073709551617"),
                    Dict{{1, 2}, {"a", 3}},
                    Dict{{Tuple{1, 2}, List{}}},
                    Dict{{4, "four"}},
                    Dict{},
                    List{},
                    Tuple{},
                    Tuple{"ckptio.bytes", "an honest tuple"},
                    at::Tensor(),
                    std::complex<double>(0, 1),
                    std::string("nul\0in", 6)};
  for (const Value& value : values) CHECK(Value::from_ivalue(value.to_ivalue()) == value);
}

TEST_CASE("Typed IValues are read, kinds without counterpart are refused", "[value]") {
  CHECK(Value::from_ivalue(c10::List<int64_t>({1, 2})) == List{1, 2});
  CHECK(Value::from_ivalue(c10::List<double>({1.5})) == List{1.5});
  c10::Dict<std::string, at::Tensor> tensors;
  tensors.insert("w", torch::ones({1}));
  CHECK(Value::from_ivalue(tensors) == (Dict{{"w", torch::ones({1})}}));
  CHECK(Value::from_ivalue(c10::Device("cpu")) == c10::Device("cpu"));
  CHECK_THROWS_AS(Value::from_ivalue(c10::make_intrusive<c10::ivalue::Future>(c10::IntType::get())), TypeError);
  CHECK_THROWS_AS(Value::from_ivalue(c10::ivalue::Tuple::create({c10::IValue("ckptio.unheard")})), TypeError);
}

TEST_CASE("Values nested too deeply are an error, not a crash", "[value]") {
  Value value = 1;
  for (int i = 0; i < 300; ++i) value = List{std::move(value)};
  CHECK_THROWS_AS(value.to_ivalue(), ValueError);
}
