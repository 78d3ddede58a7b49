// SPDX-License-Identifier: Apache-2.0
#include "ckptio/formats/safetensors_checkpoint_io.h"

#include <torch/torch.h>

#include <filesystem>
#include <limits>

#include "ckptio/storage/local_storage.h"
#include "ckptio/storage/memory_storage.h"
#include "support/catch.h"
#include "support/faulty_storage.h"
#include "support/raw_zip.h"
#include "support/same_bits.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using namespace ckptio::test;

namespace {

constexpr const char* kPath = "x.safetensors";

struct Memory {
  std::shared_ptr<MemoryStorage> storage = std::make_shared<MemoryStorage>();
  SafetensorsCheckpointIO io;
  explicit Memory(SafetensorsCheckpointIOOptions options = {}) : io(with_storage(std::move(options))) {}

  SafetensorsCheckpointIOOptions with_storage(SafetensorsCheckpointIOOptions options) const {
    options.storage = storage;
    return options;
  }

  std::string saved(const Checkpoint& checkpoint) {
    io.save_checkpoint(checkpoint, kPath);
    return read_file(*storage, kPath);
  }
  Checkpoint loaded(const LoadOptions& options = {}) { return io.load_checkpoint(kPath, options).value(); }
  Checkpoint round_trip(const Checkpoint& checkpoint) {
    io.save_checkpoint(checkpoint, kPath);
    return loaded();
  }
};

// The message of what a save throws.
template <class E>
std::string save_error(const Checkpoint& checkpoint, SafetensorsCheckpointIOOptions options = {}) {
  Memory memory(std::move(options));
  try {
    memory.io.save_checkpoint(checkpoint, kPath);
  } catch (const E& error) {
    CHECK_FALSE(memory.storage->exists(kPath));
    return error.what();
  }
  return "no error";
}

std::string load_error(const std::string& header, const std::string& data = "") {
  Memory memory;
  write_file(*memory.storage, kPath, le(header.size(), 8) + header + data);
  try {
    memory.loaded();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// A file of one float32 tensor "w" of `n` elements with this text as its structure.
std::string structure_error(const std::string& structure, int n = 4) {
  std::string quoted;
  for (const char c : structure) quoted += c == '"' ? "\\\"" : std::string(1, c);
  return load_error("{\"__metadata__\":{\"ckptio.structure\":\"" + quoted + "\"},\"w\":{\"dtype\":\"F32\",\"shape\":[" +
                        std::to_string(n) + "],\"data_offsets\":[0," + std::to_string(4 * n) + "]}}",
                    std::string(static_cast<std::size_t>(4 * n), '\0'));
}

const at::Tensor& tensor(const Value& value) { return value.as<at::Tensor>(); }

bool share_memory(const at::Tensor& a, const at::Tensor& b) {
  return a.storage().unsafeGetStorageImpl() == b.storage().unsafeGetStorageImpl();
}

}  // namespace

TEST_CASE("A flat Dict of tensors is exactly the library's file", "[safetensors]") {
  Memory memory;
  const auto b = torch::tensor({1.0f, 2.0f});
  const std::string bytes =
      memory.saved({{"b", b}, {"a", torch::tensor({7}, torch::kByte)}, {"c", b.to(torch::kDouble)}});
  const std::string header = R"({"c":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},)"
                             R"("b":{"dtype":"F32","shape":[2],"data_offsets":[16,24]},)"
                             R"("a":{"dtype":"U8","shape":[1],"data_offsets":[24,25]}}    )";
  const std::string data =
      le(0x3FF0000000000000, 8) + le(0x4000000000000000, 8) + le(0x3F800000, 4) + le(0x40000000, 4) + "\7";
  REQUIRE(header.size() % 8 == 0);
  CHECK(bytes == le(header.size(), 8) + header + data);
  CHECK(memory.loaded() == Checkpoint{{"a", torch::tensor({7}, torch::kByte)}, {"b", b}, {"c", b.to(torch::kDouble)}});
  CHECK(memory.saved({}) == le(8, 8) + "{}      ");
  CHECK(memory.loaded() == Checkpoint{});
}

TEST_CASE("Every plain value comes back equal from the metadata, types and order included", "[safetensors]") {
  const Checkpoint original{{"int", 3},
                            {"negative", std::numeric_limits<std::int64_t>::min()},
                            {"big", std::numeric_limits<std::uint64_t>::max()},
                            {"bigger", BigInt("-123456789012345678901234567890")},
                            {"double", 0.1},
                            {"whole", 3.0},
                            {"minus zero", -0.0},
                            {"tiny", 5e-324},
                            {"huge", 1.7976931348623157e308},
                            {"inf", -std::numeric_limits<double>::infinity()},
                            {"nan", std::nan("")},
                            {"bool", true},
                            {"none", nullptr},
                            {"complex", std::complex<double>(1, -std::numeric_limits<double>::infinity())},
                            {"string", std::string("nul\0 quote\" line\n \xc3\xa9", 20)},
                            {"bytes", Bytes("\x00\xff\x80", 3)},
                            {"empty", List{Dict{}, List{}, Tuple{}, "", Bytes()}},
                            {"list", List{1, 2.5, "x", nullptr, List{true}}},
                            {"bytearray", ByteArray("\x00\xff")},
                            {"set", Set{1, "b", Tuple{2, 3.0}}},
                            {"frozen", Set::make_frozen({1.5, nullptr})},
                            {"size", Tuple::make_size({2, 3})},
                            {"dtype", torch::kBFloat16},
                            {"device", torch::Device("cuda:1")},
                            {"tuple", Tuple{1, Tuple{2}, List{}}},
                            {"ints", Dict{{3, "three"}, {-1, "minus one"}}},
                            {"mixed", Dict{{"a", 1}, {2, "b"}, {true, 3}, {nullptr, 4}, {Tuple{1, "x"}, 5}}},
                            {"$tuple", Dict{{"$dict", 1}, {"$", List{}}}},
                            {"", "a key of no characters"},
                            {"quote\" and\nline", 1}};
  Memory memory;
  const Checkpoint loaded = memory.round_trip(original);
  CHECK(first_difference(loaded, original) == "");
  CHECK(to_string(loaded) == to_string(original));
}

TEST_CASE("The types of dictionaries and their attributes come back from within a checkpoint", "[safetensors]") {
  Dict state{{"w", torch::rand({2})}, {"$b", torch::rand({1})}};
  state.set_type(DictType::ordered_dict);
  state.attributes()["_metadata"] = Dict{{"", Dict{{"version", 1}}}};
  Dict counter{{30, 1}, {80, 2}};
  counter.set_type(DictType::counter);
  Memory memory;
  const Checkpoint loaded = memory.round_trip({{"state_dict", state}, {"milestones", counter}});
  CHECK(first_difference(loaded, Dict{{"state_dict", state}, {"milestones", counter}}) == "");
  CHECK(loaded.at("state_dict").as<Dict>().type() == DictType::ordered_dict);
  CHECK(loaded.at("state_dict").as<Dict>().attributes() == state.attributes());
  CHECK(loaded.at("milestones").as<Dict>().type() == DictType::counter);
  // Alone it is a flat Dict of tensors, as the library has them.
  CHECK(memory.saved(state).find("__metadata__") == std::string::npos);
  CHECK(memory.loaded().type() == DictType::dict);
  // Of a state_dict's attributes no one thinks who wants tensors alone.
  SafetensorsCheckpointIOOptions refuse;
  refuse.plain_values = PlainValues::refuse;
  Memory strict(refuse);
  const Dict kept = strict.round_trip({{"model", state}}).at("model").as<Dict>();
  CHECK(kept.type() == DictType::ordered_dict);
  CHECK(kept.attributes().empty());
}

TEST_CASE("Tensors are named by their path, and the checkpoint comes back", "[safetensors]") {
  const Checkpoint original{{"epoch", 3},
                            {"state_dict", Dict{{"fc.weight", torch::rand({2, 3})}, {"fc.bias", torch::rand({2})}}},
                            {"optimizer_states", List{Dict{{"state", Dict{{0, Dict{{"step", torch::tensor(1.0f)}}}}}}}},
                            {"pair", Tuple{torch::tensor(1), torch::tensor(2)}},
                            {"flags", Dict{{true, torch::tensor(3)}}}};
  Memory memory;
  const std::string bytes = memory.saved(original);
  for (const char* name : {"state_dict.fc.weight", "state_dict.fc.bias", "optimizer_states.0.state.0.step", "pair.0",
                           "pair.1", "flags.True"}) {
    CHECK_THAT(bytes, ContainsSubstring("\"" + std::string(name) + "\":{\"dtype\""));
  }
  const Checkpoint loaded = memory.loaded();
  CHECK(first_difference(loaded, original) == "");
  CHECK(to_string(loaded) == to_string(original));
}

TEST_CASE("Tensors whose paths give the same name, or one that the format uses, all come back", "[safetensors]") {
  const Checkpoint original{{"a.b", torch::tensor(1)},
                            {"a", Dict{{"b", torch::tensor(2)}, {0, torch::tensor(3)}, {"0", torch::tensor(4)}}},
                            {"__metadata__", torch::tensor(5)},
                            {"a.b#2", torch::tensor(6)},
                            {"", torch::tensor(7)}};
  Memory memory;
  CHECK(first_difference(memory.round_trip(original), original) == "");
  CHECK(first_difference(memory.round_trip({{"__metadata__", torch::tensor(5)}}),
                         Dict{{"__metadata__", torch::tensor(5)}}) == "");
}

TEST_CASE("Tensors of every dtype of the format come back bit for bit, with whatever strides", "[safetensors]") {
  Checkpoint flat;
  const auto bytes = torch::randint(0, 256, {6, 16}, torch::kByte);
  for (const auto type : {torch::kByte, torch::kChar, torch::kShort, torch::kUInt16, torch::kInt, torch::kUInt32,
                          torch::kLong, torch::kUInt64, torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble,
                          torch::kComplexFloat, torch::kFloat8_e4m3fn, torch::kFloat8_e5m2, torch::kFloat8_e8m0fnu,
                          torch::kFloat8_e4m3fnuz, torch::kFloat8_e5m2fnuz, torch::kFloat4_e2m1fn_x2}) {
    const auto whole = bytes.clone().view(type);
    const std::string name = c10::toString(type);
    flat[name] = whole;
    if (type != torch::kFloat4_e2m1fn_x2) flat[name + " scalar"] = bytes.clone().view(type).select(0, 1).select(0, 1);
    flat[name + " transposed"] = bytes.clone().view(type).t();
    flat[name + " sliced"] = bytes.clone().view(type).slice(0, 1, 5, 2);
    flat[name + " expanded"] = bytes.clone().view(type).slice(0, 0, 1).expand({3, whole.size(1)});
    flat[name + " empty"] = bytes.clone().view(type).slice(0, 2, 2);
  }
  flat["bool"] = torch::tensor({true, false, true});
  Memory memory;
  const Checkpoint loaded = memory.round_trip(flat);
  CHECK(loaded.size() == flat.size());
  for (const auto& [name, value] : flat) {
    INFO(to_string(name));
    const at::Tensor &a = tensor(value), &b = tensor(loaded.at(name));
    CHECK(a.scalar_type() == b.scalar_type());
    CHECK(a.sizes() == b.sizes());
    CHECK(b.is_contiguous());
    // Some of these types have no operators: compare them as bytes.
    const auto octets = [](const at::Tensor& t) { return t.element_size() == 1 ? t.view(torch::kByte) : t; };
    CHECK(same_bits(octets(a), octets(b)));
  }
}

TEST_CASE("Tensors larger than a piece come back from whatever strides they have", "[safetensors]") {
  const auto wide = torch::arange(3 * 1024 * 1024, torch::kInt);  // 12 MB
  const Checkpoint original{{"step 2", torch::arange(5 * 1024 * 1024, torch::kInt).slice(0, 0, std::nullopt, 2)},
                            {"transposed", wide.view({3, 1024, 1024}).permute({2, 0, 1})},
                            {"one row", wide.clone().view({1024, 3, 1024, 1}).permute({3, 1, 2, 0})},
                            {"expanded", torch::arange(4, torch::kInt).expand({1000, 1000, 4})}};
  Memory memory;
  CHECK(first_difference(memory.round_trip(original), original) == "");
}

TEST_CASE("Conjugated and negated views are saved as they read", "[safetensors]") {
  const auto z = torch::complex(torch::rand({3}), torch::rand({3}));
  const Checkpoint original{{"z", z}, {"conj", z.conj()}, {"neg", torch::_neg_view(torch::rand({4}))}};
  Memory memory;
  const Checkpoint loaded = memory.round_trip(original);
  CHECK(loaded == original);
  CHECK_FALSE(tensor(loaded.at("conj")).is_conj());
}

TEST_CASE("requires_grad is not kept, and does not stand in the way", "[safetensors]") {
  Memory memory;
  const auto w = torch::rand({2}, torch::requires_grad());
  CHECK_FALSE(tensor(memory.round_trip({{"w", w}}).at("w")).requires_grad());
}

TEST_CASE("Undefined tensors come back", "[safetensors]") {
  Memory memory;
  CHECK_FALSE(tensor(memory.round_trip({{"a", at::Tensor()}, {"b", torch::rand({2})}}).at("a")).defined());
}

TEST_CASE("Tensors that share memory are written once, and share it again", "[safetensors]") {
  const auto w = torch::rand({4, 3});
  Memory memory;
  const std::string bytes = memory.saved({{"head.weight", w}, {"embed.weight", w}, {"other", torch::rand({2})}});
  CHECK_THAT(bytes,
             StartsWith(bytes.substr(0, 8) + R"({"__metadata__":{"head.weight":"embed.weight"},"embed.weight":)"));
  const Checkpoint loaded = memory.loaded();
  CHECK(loaded.size() == 3);
  CHECK(share_memory(tensor(loaded.at("head.weight")), tensor(loaded.at("embed.weight"))));
  CHECK(same_bits(tensor(loaded.at("head.weight")), w));
}

TEST_CASE("Views of a tensor come back as views of it", "[safetensors]") {
  const auto base = torch::rand({4, 6});
  const Checkpoint original{{"base", base},
                            {"row", base.select(0, 2)},
                            {"transposed", base.t()},
                            {"a part", base.slice(1, 2, 5, 2)},
                            {"bits", base.view(torch::kInt)},
                            {"halves", base.view(torch::kHalf).select(0, 1)}};
  Memory memory;
  const std::string bytes = memory.saved(original);
  CHECK_THAT(bytes, ContainsSubstring(R"("transposed":"base")"));  // as save_model records it
  CHECK(bytes.size() < 2000);
  const Checkpoint loaded = memory.loaded();
  CHECK(first_difference(loaded, original) == "");
  tensor(loaded.at("base")).fill_(7);
  for (const char* name : {"row", "transposed", "a part"}) CHECK(tensor(loaded.at(name)).eq(7).all().item<bool>());
  CHECK(tensor(loaded.at("transposed")).strides() == base.t().strides());
}

TEST_CASE("Views deep in a checkpoint share memory again", "[safetensors]") {
  const auto w = torch::rand({4});
  Memory memory;
  const Checkpoint loaded =
      memory.round_trip({{"state_dict", Dict{{"w", w}}}, {"ema", List{w, w.slice(0, 1, 3)}}, {"epoch", 1}});
  const auto& shared = tensor(loaded.at("state_dict")["w"]);
  CHECK(share_memory(shared, tensor(loaded.at("ema")[0])));
  CHECK(share_memory(shared, tensor(loaded.at("ema")[1])));
  CHECK(same_bits(tensor(loaded.at("ema")[1]), w.slice(0, 1, 3)));
}

TEST_CASE("Parts of one memory that do not overlap are tensors of their own", "[safetensors]") {
  const auto buffer = torch::rand({8});
  const Checkpoint original{
      {"a", buffer.slice(0, 0, 4)}, {"b", buffer.slice(0, 4, 8)}, {"c", torch::rand({8}).slice(0, 2, 4)}};
  Memory memory;
  const std::string bytes = memory.saved(original);
  CHECK(bytes.find("__metadata__") == std::string::npos);
  CHECK(first_difference(memory.loaded(), original) == "");
}

TEST_CASE("The same part of a memory under two names is written once", "[safetensors]") {
  const auto buffer = torch::rand({4, 4});
  Memory memory;
  const Checkpoint loaded = memory.round_trip({{"b", buffer.t().slice(0, 1, 2)}, {"a", buffer.t().slice(0, 1, 2)}});
  CHECK(share_memory(tensor(loaded.at("a")), tensor(loaded.at("b"))));
  CHECK(same_bits(tensor(loaded.at("a")), buffer.t().slice(0, 1, 2)));
}

TEST_CASE("Tensors that overlap, none of them over all, are refused with all their places", "[safetensors]") {
  const auto buffer = torch::rand({10});
  const auto message =
      save_error<ValueError>({{"state_dict", Dict{{"a", buffer.slice(0, 0, 6)}, {"b", buffer.slice(0, 4, 10)}}},
                              {"c", buffer.slice(0, 5, 7)},
                              {"fine", torch::rand({2})}});
  CHECK_THAT(message, ContainsSubstring("cannot save 'x.safetensors'"));
  CHECK_THAT(message,
             ContainsSubstring(
                 "checkpoint['c'], checkpoint['state_dict']['a'], checkpoint['state_dict']['b'] (they share memory"));
  CHECK(message.find("fine") == std::string::npos);
}

TEST_CASE("All that the format cannot hold is listed, and nothing is written", "[safetensors]") {
  const auto message =
      save_error<TypeError>({{"z", torch::rand({2}, torch::kComplexDouble)},
                             {"ok", torch::rand({2})},
                             {"deep", List{Dict{{"sparse", torch::eye(2).to_sparse()}}}},
                             {"meta", torch::empty({2}, torch::kMeta)},
                             {"q", torch::quantize_per_tensor(torch::rand({2}), 0.1, 0, torch::kQInt8)},
                             {"hparams", Opaque::make_object("argparse.Namespace", {{"lr", 1}})},
                             {"memory", TypedStorage{torch::rand({2}).storage(), torch::kFloat}},
                             {"layout", c10::kSparse},
                             {"text", "\xff"},
                             {"\xed\xa0\x80", 1}});
  CHECK_THAT(message, ContainsSubstring("checkpoint['z'] (a tensor of dtype complex128)"));
  CHECK_THAT(message, ContainsSubstring("checkpoint['deep'][0]['sparse'] (a sparse tensor)"));
  CHECK_THAT(message, ContainsSubstring("checkpoint['meta'] (a tensor without data (meta))"));
  CHECK_THAT(message, ContainsSubstring("checkpoint['q'] (a quantized tensor)"));
  CHECK_THAT(message, ContainsSubstring("checkpoint['hparams'] (an object of argparse.Namespace)"));
  CHECK_THAT(message, ContainsSubstring("checkpoint['memory'] (is storage)"));
  CHECK_THAT(message, ContainsSubstring("checkpoint['layout'] (is layout)"));
  CHECK_THAT(message, ContainsSubstring("checkpoint['text'] (text that is not UTF-8)"));
  CHECK_THAT(message, ContainsSubstring("checkpoint (its key"));
  CHECK(message.find("'ok'") == std::string::npos);
}

TEST_CASE("Plain values can be refused: all are listed", "[safetensors]") {
  SafetensorsCheckpointIOOptions refuse;
  refuse.plain_values = PlainValues::refuse;
  const auto message = save_error<TypeError>(
      {{"epoch", 3}, {"w", torch::rand({2})}, {"hparams", Dict{{"lr", 0.1}, {"name", "x"}}}}, refuse);
  CHECK_THAT(message, ContainsSubstring("checkpoint['epoch'] (is int); checkpoint['hparams']['lr'] (is float); "
                                        "checkpoint['hparams']['name'] (is str)"));
  Memory memory(refuse);
  const Checkpoint tensors{{"model", Dict{{"w", torch::rand({2})}}}, {"list", List{torch::rand({1})}}};
  CHECK(first_difference(memory.round_trip(tensors), tensors) == "");
}

TEST_CASE("Nesting beyond the limit is refused, and up to it comes back", "[safetensors]") {
  const auto nested = [](int depth) {
    Value value = List{};
    for (int i = 1; i < depth; ++i) value = i % 2 == 0 ? Value(List{std::move(value)}) : Value(Tuple{std::move(value)});
    return Checkpoint{{"x", std::move(value)}};
  };
  Memory memory;
  CHECK(memory.round_trip(nested(499)) == nested(499));
  CHECK_THAT(save_error<ValueError>(nested(500)), ContainsSubstring("nested deeper than 500 levels"));
}

TEST_CASE("Integers of up to 992 bits come back, larger ones are refused", "[safetensors]") {
  const auto power_of_two = [](std::size_t exponent) {
    std::vector<std::uint8_t> octets(exponent / 8 + 1);
    octets.back() = static_cast<std::uint8_t>(1u << (exponent % 8));
    return BigInt::from_twos_complement(octets);
  };
  Memory memory;
  const Checkpoint largest{{"x", power_of_two(990)}};
  CHECK(memory.round_trip(largest) == largest);
  CHECK_THAT(save_error<ValueError>({{"x", power_of_two(992)}}),
             ContainsSubstring("checkpoint['x'] (an integer of more than 992 bits)"));
  CHECK_THAT(structure_error("{\"version\":1,\"checkpoint\":{\"x\":{\"$int\":\"" + std::string(301, '9') + "\"}}}"),
             ContainsSubstring("too many digits"));
}

TEST_CASE("Metadata that are given are in the file, and are read", "[safetensors]") {
  Memory memory({.metadata = {{"format", "pt"}, {"note", "\xc3\xa9"}}});
  const std::string bytes = memory.saved({{"w", torch::tensor({1}, torch::kByte)}});
  CHECK_THAT(bytes, ContainsSubstring("{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\xc3\xa9\"},\"w\":"));
  CHECK(memory.io.load_metadata(kPath) == std::map<std::string, std::string>{{"format", "pt"}, {"note", "\xc3\xa9"}});
  memory.saved({{"epoch", 3}});
  CHECK(memory.io.load_metadata(kPath).size() == 2);
  CHECK(memory.loaded() == Checkpoint{{"epoch", 3}});
  CHECK_THROWS_AS(SafetensorsCheckpointIO({.metadata = {{"ckptio.structure", ""}}}), ValueError);
  CHECK_THROWS_AS(memory.io.load_metadata("absent"), NotFoundError);
}

TEST_CASE("Metadata that look like the name of a tensor do not become one", "[safetensors]") {
  const auto w = torch::rand({2});
  Memory memory({.metadata = {{"base", "w"}, {"v", "not w"}}});
  const Checkpoint loaded = memory.round_trip({{"w", w}, {"v", w}});
  CHECK(loaded.size() == 2);
  CHECK(share_memory(tensor(loaded.at("v")), tensor(loaded.at("w"))));
  CHECK(memory.io.load_metadata(kPath) ==
        std::map<std::string, std::string>{{"base", "w"}, {"v", "not w"}, {"w", "v"}});
}

TEST_CASE("A structure that is none, or does not fit the file, is corrupt", "[safetensors]") {
  const auto wrap = [](const std::string& text) { return "{\"version\":1,\"checkpoint\":" + text + "}"; };
  CHECK(structure_error(wrap(R"({"x":{"$tensor":"w"}})")) == "no error");
  CHECK_THAT(structure_error("{"), ContainsSubstring("metadata 'ckptio.structure' at byte"));
  CHECK_THAT(structure_error("1"), ContainsSubstring("it is no object"));
  CHECK_THAT(structure_error("[]"), ContainsSubstring("it is no object with the keys version and checkpoint"));
  CHECK_THAT(structure_error(wrap("[]")), ContainsSubstring("it is no object with the keys"));
  CHECK_THAT(structure_error(R"({"version":3,"checkpoint":{"x":{"$new":1}}})"),
             ContainsSubstring("is of version 3, written by a newer ckptio; this one reads version 2"));
  CHECK_THAT(structure_error(R"({"version":"1","checkpoint":{}})"), ContainsSubstring("its version is '1'"));
  CHECK_THAT(structure_error(wrap("{}")), ContainsSubstring("it says nothing of the tensor 'w'"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$tensor":"v"}})")), ContainsSubstring("there is no tensor 'v'"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$tensor":1}})")), ContainsSubstring("ckptio.structure"));
  CHECK(structure_error(wrap(R"({"x":{"$tensors":["",["w"]]}})")) == "no error");
  CHECK_THAT(structure_error(wrap(R"({"x":{"$tensors":["x",["w"]]}})")), ContainsSubstring("there is no tensor 'x.w'"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$tensors":["",["w","w"]]}})")), ContainsSubstring("comes twice"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$tensors":["w"]}})")), ContainsSubstring("no pair of a name and keys"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$tensors":["",[1]]}})")), ContainsSubstring("ckptio.structure"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$tensors":{"w":1}}})")), ContainsSubstring("ckptio.structure"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$magic":1}})")), ContainsSubstring("the unknown key '$magic'"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$tuple":[],"y":1}})")), ContainsSubstring("the key '$tuple' among others"));
  CHECK_THAT(structure_error(wrap(R"({"x":1,"x":2})")), ContainsSubstring("comes twice"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$dict":[[1,2],[1,3]]}})")), ContainsSubstring("comes twice"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$dict":[[1,2,3]]}})")), ContainsSubstring("no pair"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$dict":[[[],2]]}})")), ContainsSubstring("ckptio.structure"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$ordered_dict":[{}]}})")), ContainsSubstring("no pair of entries"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$set":[1,1]}})")), ContainsSubstring("comes twice"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$set":[[]]}})")), ContainsSubstring("ckptio.structure"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$dtype":"float33"}})")), ContainsSubstring("the dtype 'float33'"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$device":"toaster"}})")), ContainsSubstring("ckptio.structure"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$bytes":"0g"}})")), ContainsSubstring("no hexadecimal digit"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$int":"1x"}})")), ContainsSubstring("ckptio.structure"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$float":"1"}})")), ContainsSubstring("the float '1'"));
  CHECK_THAT(structure_error(wrap(R"({"x":{"$complex":[1]}})")), ContainsSubstring("ckptio.structure"));
  CHECK_THAT(structure_error(wrap("{\"x\":" + std::string(3000, '[') + std::string(3000, ']') + "}")),
             ContainsSubstring("nested deeper"));
}

TEST_CASE("The structure names a dict of tensors once, where each has its own name and memory", "[safetensors]") {
  Memory memory;
  const at::Tensor a = torch::rand({3}), b = torch::rand({2, 2});
  const auto text_of = [&](const Value& value) {
    const Checkpoint checkpoint{{"epoch", 1}, {"x", value}};
    const std::string file = memory.saved(checkpoint);
    CHECK(memory.loaded() == checkpoint);
    std::string text = file.substr(file.find("\\\"epoch"), file.find("}}\"}") - file.find("\\\"epoch"));
    std::erase(text, '\\');
    return text;
  };
  CHECK(text_of(Dict{{"b", b}, {"a.c", a}}) == R"("epoch":1,"x":{"$tensors":["x",["b","a.c"]]})");
  CHECK(text_of(List{Dict{{"a", a}}}) == R"("epoch":1,"x":[{"$tensors":["x.0",["a"]]}])");
  CHECK(text_of(Dict{{"a", a}, {"b", a}}) == R"("epoch":1,"x":{"a":{"$tensor":"x.a"},"b":{"$tensor":"x.a"}})");
  CHECK(text_of(Dict{{"a", a}, {"n", 2}}) == R"("epoch":1,"x":{"a":{"$tensor":"x.a"},"n":2})");
  CHECK(text_of(Dict{{"\xc3\xa9", a}}) == "\"epoch\":1,\"x\":{\"\xc3\xa9\":{\"$tensor\":\"x.\xc3\xa9\"}}");
  CHECK(text_of(Dict{{"", Dict{{"a", a}}}, {"a", b}}) ==
        R"("epoch":1,"x":{"":{"$tensors":["x.",["a"]]},"a":{"$tensor":"x.a"}})");
  CHECK(text_of(Dict{{"p.q", Dict{{"a", a}}}, {"p", Dict{{"q", Dict{{"a", b}}}}}}) ==
        R"("epoch":1,"x":{"p.q":{"$tensors":["x.p.q",["a"]]},"p":{"q":{"a":{"$tensor":"x.p.q.a#2"}}}})");
  CHECK(text_of(Dict()) == R"("epoch":1,"x":{})");
}

TEST_CASE("A view in a structure must be inside its tensor", "[safetensors]") {
  const auto error = [](const std::string& view) {
    return structure_error(R"({"version":1,"checkpoint":{"w":{"$tensor":"w"},"x":{"$view":["w",)" + view + "]}}}");
  };
  CHECK(error(R"("float32",1,[3],[1])") == "no error");
  CHECK(error(R"("int16",6,[2],[1])") == "no error");
  CHECK(error(R"("float32",3,[],[])") == "no error");
  for (const char* outside :
       {R"("float32",2,[3],[1])", R"("float32",-1,[3],[1])", R"("float32",0,[2],[4])", R"("float32",4,[],[])",
        R"("float64",1,[2],[1])", R"("float32",0,[2,2],[2])", R"("float32",0,[-1],[1])", R"("float32",0,[2],[-1])",
        R"("float32",0,[5],[0])", R"("float32",0,[4611686018427387904,4],[1,1])",
        R"("float32",0,[2,2],[9223372036854775807,9223372036854775807])", R"("float32",9223372036854775807,[2],[1])"}) {
    INFO(outside);
    CHECK_THAT(error(outside), ContainsSubstring("not inside the tensor 'w'"));
  }
  CHECK_THAT(error(R"("complex128",0,[1],[1])"), ContainsSubstring("a view of the dtype 'complex128'"));
  CHECK_THAT(error(R"("float32",0,[1])"), ContainsSubstring("ckptio.structure"));
}

TEST_CASE("storage_options for safetensors are a TypeError, even empty ones", "[safetensors]") {
  Memory memory;
  CHECK_THROWS_WITH(memory.io.save_checkpoint({}, kPath, Dict{}), ContainsSubstring("`SafetensorsCheckpointIO`"));
  CHECK_THROWS_AS(memory.io.save_checkpoint({}, kPath, Dict{}), TypeError);
  CHECK_THROWS_AS(SafetensorsCheckpointIO(std::shared_ptr<StorageBackend>()), ValueError);
}

TEST_CASE("A safetensors file that is not there is not found, and removing it is no error", "[safetensors]") {
  Memory memory;
  CHECK_THROWS_WITH(memory.loaded(), Equals("Checkpoint file not found: x.safetensors"));
  CHECK_THROWS_AS(memory.loaded(), NotFoundError);
  memory.io.remove_checkpoint(kPath);
  memory.saved({{"epoch", 1}});
  memory.io.remove_checkpoint(kPath);
  CHECK_FALSE(memory.storage->exists(kPath));
}

TEST_CASE("On the local disk parent folders are made, and a save that fails leaves the old file", "[safetensors]") {
  TempFolder folder;
  const std::string path = folder / "deep/er/x.safetensors";
  SafetensorsCheckpointIO io;
  io.save_checkpoint({{"epoch", 1}}, path);
  CHECK_THROWS_AS(io.save_checkpoint({{"x", torch::rand({2}, torch::kComplexDouble)}}, path), TypeError);
  CHECK(io.load_checkpoint(path) == Checkpoint{{"epoch", 1}});
  CHECK(std::distance(std::filesystem::directory_iterator(folder / "deep/er"), {}) == 1);
}

TEST_CASE("Whichever call to the storage fails, the old file stays and the error comes out", "[safetensors]") {
  const auto inner = std::make_shared<MemoryStorage>();
  const auto storage = std::make_shared<FaultyStorage>(inner);
  SafetensorsCheckpointIO io(storage);
  io.save_checkpoint({{"epoch", 1}}, kPath);
  const Checkpoint next{{"epoch", 2}, {"large", torch::rand({300, 300})}, {"small", torch::rand({3})}};
  for (std::uint64_t call = 1;; ++call) {
    storage->reset_counts();
    storage->faults() = {.fail_at_call = call};
    try {
      io.save_checkpoint(next, kPath);
      storage->faults() = {};
      CHECK(call > 3);
      break;
    } catch (const IoError&) {
      storage->faults() = {};
      CHECK(io.load_checkpoint(kPath) == Checkpoint{{"epoch", 1}});
    }
  }
  CHECK(first_difference(*io.load_checkpoint(kPath), next) == "");
  storage->faults() = {.shrink_to = 5000};
  CHECK_THROWS_AS(io.load_checkpoint(kPath), IoError);
}

TEST_CASE("Small tensors are written and read together, large ones by themselves", "[safetensors]") {
  const auto storage = std::make_shared<FaultyStorage>(std::make_shared<MemoryStorage>());
  SafetensorsCheckpointIO io(storage);
  Checkpoint checkpoint{{"large", torch::rand({512, 1024})}};
  for (int i = 0; i < 1000; ++i) checkpoint["small" + std::to_string(i)] = torch::rand({i % 7, 5});
  io.save_checkpoint(checkpoint, kPath);
  CHECK(storage->counts().appends <= 8);
  CHECK(io.load_checkpoint(kPath) == checkpoint);
  CHECK(storage->counts().reads <= 6);
}

TEST_CASE("Loaded tensors go where map_location says, and shared ones once", "[safetensors]") {
  const auto w = torch::rand({2});
  Memory memory;
  memory.saved({{"a", w}, {"b", w}});
  CHECK(tensor(memory.loaded({.map_location = "meta"}).at("a")).is_meta());
  int n_calls = 0;
  const Checkpoint loaded = memory.loaded({.map_location = [&](const c10::Storage&, const std::string& location) {
    ++n_calls;
    CHECK(location == "cpu");
    return "cpu";
  }});
  CHECK(n_calls == 1);
  CHECK(share_memory(tensor(loaded.at("a")), tensor(loaded.at("b"))));
  CHECK(memory.loaded({.weights_only = true}).size() == 2);
}

TEST_CASE("Mapped tensors are the file's pages, and changes to them stay in memory", "[safetensors]") {
  TempFolder folder;
  const std::string path = folder / "x.safetensors";
  SafetensorsCheckpointIO io;
  Checkpoint original{{"byte", torch::ones({3}, torch::kByte)}, {"epoch", 3}};
  for (const auto type : {torch::kDouble, torch::kFloat, torch::kHalf}) {
    const std::string name = c10::toString(type);
    original[name] = torch::rand({5, 7}, torch::kDouble).to(type);
    original[name + " again"] = original[name];
  }
  io.save_checkpoint(original, path);
  LoadOptions options;
  options.mmap = true;
  const Checkpoint mapped = io.load_checkpoint(path, options).value();
  CHECK(first_difference(mapped, original) == "");
  // All of one mapping: their addresses differ as their places in the file do.
  std::uintptr_t lowest = UINTPTR_MAX, highest = 0;
  for (const auto& [name, value] : mapped) {
    if (!value.is<at::Tensor>()) continue;
    const auto address = reinterpret_cast<std::uintptr_t>(tensor(value).data_ptr());
    CHECK(address % tensor(value).element_size() == 0);
    lowest = std::min(lowest, address);
    highest = std::max(highest, address);
  }
  CHECK(highest - lowest < std::filesystem::file_size(path));
  tensor(mapped.at("Float")).fill_(7);
  CHECK(tensor(mapped.at("Float again")).eq(7).all().item<bool>());
  io.save_checkpoint({{"epoch", 4}}, path);  // another file of that name: the mapped one stays
  CHECK(same_bits(tensor(mapped.at("Double")), tensor(original.at("Double"))));
}

TEST_CASE("A mapped tensor whose address does not fit its dtype is copied", "[safetensors]") {
  TempFolder folder;
  // As other programs may write it: not sorted by dtype, and a header of an odd length.
  const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                             R"("b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}} )";
  LocalStorage local;
  write_file(local, folder / "odd", le(header.size(), 8) + header + "\7" + le(0x3FF0000000000000, 8));
  LoadOptions options;
  options.mmap = true;
  const Checkpoint loaded = SafetensorsCheckpointIO().load_checkpoint(folder / "odd", options).value();
  CHECK(reinterpret_cast<std::uintptr_t>(tensor(loaded.at("b")).data_ptr()) % 8 == 0);
  CHECK(tensor(loaded.at("b")).item<double>() == 1);
  CHECK(tensor(loaded.at("a")).item<int>() == 7);
}

TEST_CASE("A file that is no safetensors file is corrupt, and the message says so", "[safetensors]") {
  Memory memory;
  write_file(*memory.storage, kPath, "PK\3\4 this is a zip file");
  CHECK_THROWS_AS(memory.loaded(), CorruptError);
  write_file(*memory.storage, kPath, "");
  CHECK_THROWS_WITH(memory.loaded(), ContainsSubstring("cannot read 'x.safetensors': header length at byte 0"));
}
