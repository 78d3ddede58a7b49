// SPDX-License-Identifier: Apache-2.0
#include "ckptio/formats/python_checkpoint_io.h"

#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/load_checkpoint.h"
#include "ckptio/state.h"
#include "ckptio/storage/local_storage.h"
#include "ckptio/storage/memory_storage.h"
#include "support/catch.h"
#include "support/faulty_storage.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"
#include "support/training_state.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;
using ckptio::test::Equals;
using ckptio::test::training_state;

namespace {

Value round_trip(const Value& value, const LoadOptions& options = {}) {
  PythonCheckpointIO io(std::make_shared<MemoryStorage>());
  io.save_value(value, "x.ckpt");
  return io.load_value("x.ckpt", options);
}

std::string bytes_of(const Value& value, const PythonCheckpointIOOptions& given = {}) {
  PythonCheckpointIOOptions options = given;
  options.storage = std::make_shared<MemoryStorage>();
  PythonCheckpointIO(options).save_value(value, "x.ckpt");
  return test::read_file(*options.storage, "x.ckpt");
}

const void* data_of(const Value& value) { return value.as<at::Tensor>().storage().data(); }

}  // namespace

TEST_CASE("Every kind of value comes back equal from a Python file, types and order included", "[python]") {
  Dict ordered{{"z", 1}, {"a", torch::ones({2})}};
  ordered.set_type(DictType::ordered_dict);
  ordered.attributes()["_metadata"] = Dict{{"", Dict{{"version", 1}}}};
  const Checkpoint original{
      {"int", 3},
      {"negative", std::numeric_limits<std::int64_t>::min()},
      {"big", BigInt("-123456789012345678901234567890")},
      {"double", 0.1},
      {"inf", -std::numeric_limits<double>::infinity()},
      {"nan", std::nan("")},
      {"bool", true},
      {"none", nullptr},
      {"complex", std::complex<double>(1, -2)},
      {"string", std::string("nul\0 quote\" line\n \xc3\xa9", 20)},
      {"surrogate", "\xed\xa0\x80"},
      {"bytes", List{Bytes("\x00\xff\x80", 3), Bytes(), ByteArray("ab"), ByteArray()}},
      {"empty", List{Dict{}, List{}, Tuple{}, "", Set{}, Tuple::make_size({})}},
      {"nested", List{1, 2.5, Tuple{1, Tuple{2}, List{nullptr}}}},
      {"ints", Dict{{3, "three"}, {-1, "minus one"}}},
      {"keys", Dict{{"a", 1}, {2, "b"}, {nullptr, 4}, {Tuple{1, "x"}, 5}, {0.5, 6}, {torch::kInt, 7}}},
      {"sets", List{Set{1, "x", Tuple{2}}, Set::make_frozen({1}), Dict{{Set::make_frozen({2}), 1}}}},
      {"size", Tuple::make_size({2, 3})},
      {"torch", List{torch::kBFloat16, c10::Device("cuda:1"), c10::kSparseCsr, c10::kPerTensorAffine}},
      {"ordered", ordered},
      {"", "a key of no characters"}};
  const Value loaded = round_trip(original, {.weights_only = true});
  CHECK(loaded == original);
  CHECK(to_string(loaded) == to_string(original));
  const Dict& loaded_ordered = loaded.at("ordered").as<Dict>();
  CHECK(loaded_ordered.type() == DictType::ordered_dict);
  CHECK(loaded_ordered.attributes().at("_metadata").at("").at("version") == 1);
}

TEST_CASE("Tensors of every kind come back equal from a Python file", "[python]") {
  torch::manual_seed(3);
  const auto matrix = torch::randn({4, 6});
  const auto sparse = torch::eye(4);
  List tensors{matrix.t(),
               matrix.slice(1, 1, 5, 2),
               torch::randn({1, 3}).expand({4, 3}),
               torch::empty({3, 0}),
               torch::tensor(1),
               torch::randn({2}, torch::kComplexDouble).conj(),
               at::imag(torch::randn({2}, torch::kComplexFloat).conj()),
               torch::empty({2, 3}, torch::TensorOptions().device(torch::kMeta)),
               sparse.to_sparse(),
               sparse.to_sparse_csr(),
               sparse.to_sparse_csc(),
               sparse.to_sparse_bsr({2, 2}),
               sparse.to_sparse_bsc({2, 2}),
               torch::quantize_per_tensor(torch::randn({3}), 0.1, 3, torch::kQUInt8),
               torch::quantize_per_channel(torch::randn({2, 3}), torch::tensor({0.1, 0.2}), torch::tensor({0, 1}), 0,
                                           torch::kQInt8),
               at::_nested_tensor_from_tensor_list({torch::randn({2, 3}), torch::randn({1, 3})}),
               torch::randn({2}).set_requires_grad(true)};
  for (int type = 0; type <= static_cast<int>(c10::ScalarType::Float8_e8m0fnu); ++type) {
    const auto dtype = static_cast<c10::ScalarType>(type);
    if (c10::isQIntType(dtype) || c10::isBitsType(dtype)) continue;
    if (dtype > c10::ScalarType::UInt64 && dtype < c10::ScalarType::Float8_e8m0fnu) continue;  // parts of bytes
    tensors.push_back(torch::randint(0, 100, {24}, torch::kByte).view(torch::kByte).repeat({2}).view(dtype));
  }
  const Value loaded = round_trip(tensors, {.weights_only = true});
  REQUIRE(loaded.size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    INFO(i << ": " << to_string(tensors.at(static_cast<std::int64_t>(i))));
    CHECK(loaded.at(i) == tensors.at(static_cast<std::int64_t>(i)));
  }
  CHECK(loaded.at(0).as<at::Tensor>().strides() == matrix.t().strides());
  CHECK(loaded.at(5).as<at::Tensor>().is_conj());
  CHECK(loaded.at(6).as<at::Tensor>().is_neg());
  CHECK(loaded.at(16).as<at::Tensor>().requires_grad());
}

TEST_CASE("Tensors that share a storage, under one dtype or several, share it after loading", "[python]") {
  const auto base = torch::arange(8, torch::kFloat);
  const Checkpoint original{{"base", base},
                            {"row", base.view({2, 4}).select(0, 1)},
                            {"words", base.view(torch::kInt)},
                            {"apart", base.clone()},
                            {"storage", TypedStorage{base.storage(), torch::kFloat}}};
  const Value loaded = round_trip(original, {.weights_only = true});
  CHECK(loaded.at("row") == original.at("row"));
  CHECK(loaded.at("words") == original.at("words"));
  CHECK(data_of(loaded.at("base")) == data_of(loaded.at("row")));
  CHECK(data_of(loaded.at("base")) == data_of(loaded.at("words")));
  CHECK(data_of(loaded.at("base")) == loaded.at("storage").as<TypedStorage>().storage.data());
  CHECK(data_of(loaded.at("base")) != data_of(loaded.at("apart")));
}

TEST_CASE("One tensor in two places is one tensor after loading", "[python]") {
  const auto weight = torch::ones({2});
  const Value loaded = round_trip(Dict{{"a", weight}, {"b", weight}, {"view", weight.view({2})}});
  CHECK(loaded.at("a").as<at::Tensor>().is_same(loaded.at("b").as<at::Tensor>()));
  CHECK_FALSE(loaded.at("a").as<at::Tensor>().is_same(loaded.at("view").as<at::Tensor>()));
}

TEST_CASE("Equal checkpoints are equal files, whatever they are called", "[python]") {
  CHECK(bytes_of(training_state()) == bytes_of(training_state()));
  auto storage = std::make_shared<MemoryStorage>();
  PythonCheckpointIO io(storage);
  io.save_checkpoint(training_state(), "one.ckpt");
  io.save_checkpoint(training_state(), "two.pt");
  CHECK(test::read_file(*storage, "one.ckpt") == test::read_file(*storage, "two.pt"));
}

TEST_CASE("The serialization id can be given", "[python]") {
  const std::string id(40, '7');
  CHECK(bytes_of(training_state(), {.serialization_id = id}).find(id) != std::string::npos);
  CHECK(bytes_of(training_state()).find(id) == std::string::npos);
  CHECK_THROWS_AS(PythonCheckpointIO(PythonCheckpointIOOptions{.serialization_id = "12"}), ValueError);
  CHECK_THROWS_AS(PythonCheckpointIO(std::shared_ptr<StorageBackend>()), ValueError);
}

TEST_CASE("An object of an unknown class is kept as data, read as data, and refused where weights_only is asked",
          "[python]") {
  const auto weight = torch::ones({2});
  const auto hparams = Opaque::make_object(
      "argparse.Namespace",
      {{"lr", 0.1}, {"weight", weight}, {"inner", Opaque::make_call("pathlib.PosixPath", {"/", "a"})}});
  const Checkpoint original{{"epoch", 1}, {"weight", weight}, {"hyper_parameters", hparams}};
  PythonCheckpointIO io(std::make_shared<MemoryStorage>());
  io.save_checkpoint(original, "x.ckpt");
  const Checkpoint loaded = io.load_checkpoint("x.ckpt").value();
  CHECK(loaded == original);
  const auto& opaque = loaded.at("hyper_parameters").as<Opaque>();
  CHECK(opaque.global() == "argparse.Namespace");
  CHECK(opaque.fields().at("lr") == 0.1);
  CHECK(opaque.fields().at("inner").as<Opaque>().args() == Tuple{"/", "a"});
  CHECK(opaque.fields().at("weight").as<at::Tensor>().storage().data() == data_of(loaded.at("weight")));
  CHECK(to_string(opaque) == "Opaque(argparse.Namespace)");
  CHECK_THROWS_AS(io.load_checkpoint("x.ckpt", {.weights_only = true}), UnsafeError);
  CHECK_THROWS_WITH(io.load_checkpoint("x.ckpt", {.weights_only = true}),
                    ContainsSubstring("argparse.Namespace at checkpoint['hyper_parameters']") &&
                        ContainsSubstring("pathlib.PosixPath"));
  CHECK_THROWS_WITH(TorchCheckpointIO(std::make_shared<MemoryStorage>()).save_checkpoint(loaded, "y.ckpt"),
                    ContainsSubstring("checkpoint['hyper_parameters']: argparse.Namespace"));
}

TEST_CASE("What an Opaque holds outlives the file, the checkpoint and its other tensors", "[python]") {
  Value fields;
  {
    const Value loaded = round_trip(
        Dict{{"other", torch::zeros({1000})}, {"object", Opaque::make_object("a.B", {{"w", torch::ones({2})}})}});
    fields = loaded.at("object").as<Opaque>().fields();
  }
  CHECK(fields.at("w") == torch::ones({2}));
}

TEST_CASE("storage_options, missing files and what is no checkpoint are refused as everywhere", "[python]") {
  const test::TempFolder folder;
  PythonCheckpointIO io;
  CHECK_THROWS_AS(io.save_checkpoint({}, folder / "x", Dict{}), TypeError);
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "none.ckpt"),
                    Equals("Checkpoint file not found: " + (folder / "none.ckpt")));
  CHECK_THROWS_AS(io.load_checkpoint(folder / "none.ckpt"), NotFoundError);
  io.save_value(torch::ones({2}), folder / "deep/er/tensor.pt");
  CHECK_THROWS_AS(io.load_checkpoint(folder / "deep/er/tensor.pt"), TypeError);
  CHECK(io.load_value(folder / "deep/er/tensor.pt") == torch::ones({2}));
  io.remove_checkpoint(folder / "deep");
  CHECK_FALSE(std::filesystem::exists(folder / "deep"));
  CHECK_NOTHROW(io.remove_checkpoint(folder / "deep"));
}

TEST_CASE("map_location moves storages, by where they were saved from", "[python]") {
  const auto base = torch::arange(4, torch::kFloat);
  const Dict original{{"a", base}, {"b", base.slice(0, 2)}};
  const Value meta = round_trip(original, {.map_location = "meta"});
  CHECK(meta.at("a").as<at::Tensor>().is_meta());
  CHECK(meta.at("b").as<at::Tensor>().storage_offset() == 2);
  std::vector<std::string> asked;
  const auto ask = [&asked](const std::string& location) {
    asked.push_back(location);
    return c10::Device(c10::kCPU);
  };
  CHECK(round_trip(original, {.map_location = ask}) == original);
  CHECK(asked == std::vector<std::string>{"cpu"});
  CHECK_THROWS_AS(round_trip(original, {.map_location = "cuda:0"}), UnsupportedError);
}

TEST_CASE("A mapped checkpoint is equal, and writing to it does not change the file", "[python]") {
  const test::TempFolder folder;
  const std::string path = folder / "x.ckpt";
  PythonCheckpointIO io;
  io.save_checkpoint(training_state(), path);
  const std::string before = test::read_file(LocalStorage(), path);
  Checkpoint loaded = io.load_checkpoint(path, {.mmap = true}).value();
  CHECK(loaded == training_state());
  loaded.at("state_dict").at("0.weight").as<at::Tensor>().zero_();
  CHECK(test::read_file(LocalStorage(), path) == before);
  io.save_checkpoint({}, path);  // replaces the file under the mapping
  CHECK(loaded.at("state_dict").at("0.bias") == training_state().at("state_dict").at("0.bias"));
  PythonCheckpointIO in_memory(std::make_shared<MemoryStorage>());
  in_memory.save_checkpoint(training_state(), "x");
  CHECK(in_memory.load_checkpoint("x", {.mmap = true}).value() == training_state());
}

TEST_CASE("The file is the same whatever the number of threads and the place", "[python]") {
  const test::TempFolder folder;
  Checkpoint checkpoint = training_state();
  checkpoint["large"] = torch::rand({2'500'000});
  checkpoint["strided"] = checkpoint["large"].as<at::Tensor>().view({2500, 1000}).t();
  checkpoint["none"] = torch::empty({0});
  for (int i = 0; i < 700; ++i) checkpoint["small " + std::to_string(i)] = torch::full({i * 16}, i);
  const auto memory = std::make_shared<MemoryStorage>();
  PythonCheckpointIO(memory).save_checkpoint(checkpoint, "x.ckpt");
  const std::string expected = test::read_file(*memory, "x.ckpt");
  for (const std::size_t n_threads : {1, 2, 5}) {
    PythonCheckpointIO io({.n_threads = n_threads});
    io.save_checkpoint(checkpoint, folder / "x.ckpt");
    CHECK((test::read_file(LocalStorage(), folder / "x.ckpt") == expected));
    CHECK(io.load_checkpoint(folder / "x.ckpt").value() == checkpoint);
    io.teardown();
    CHECK(io.load_checkpoint(folder / "x.ckpt").value() == checkpoint);
  }
}

TEST_CASE("Damage is found in a mapped file too, unless asked not to look", "[python]") {
  const test::TempFolder folder;
  PythonCheckpointIO io;
  io.save_checkpoint({{"x", torch::zeros({1'000'000})}}, folder / "x.ckpt");
  std::string bytes = test::read_file(LocalStorage(), folder / "x.ckpt");
  bytes[2'000'000] ^= 1;
  LocalStorage local;
  test::write_file(local, folder / "x.ckpt", bytes);
  CHECK_THROWS_AS(io.load_checkpoint(folder / "x.ckpt"), CorruptError);
  CHECK_THROWS_AS(io.load_checkpoint(folder / "x.ckpt", {.mmap = true}), CorruptError);
  for (const bool mmap : {false, true}) {
    const auto loaded = io.load_checkpoint(folder / "x.ckpt", {.mmap = mmap, .verify = false}).value();
    CHECK(loaded.at("x").as<at::Tensor>().count_nonzero().item<std::int64_t>() == 1);
  }
}

namespace {

// {"state_dict": {"0.weight": ..., ..., "49.weight": ...}, "list": [tensor, tensor], "epoch": 3}
Checkpoint many_tensors() {
  Dict weights;
  for (int i = 0; i < 50; ++i) weights[std::to_string(i) + ".weight"] = torch::full({100'000}, i, torch::kFloat);
  return {{"state_dict", weights}, {"list", List{torch::ones({5}), torch::zeros({5})}}, {"epoch", 3}};
}

}  // namespace

TEST_CASE("A filter says which tensors are loaded", "[python]") {
  std::vector<std::string> asked;
  const auto wanted = [&asked](const std::string& name) {
    asked.push_back(name);
    return name == "state_dict.7.weight" || name == "list.1";
  };
  const Checkpoint expected{{"state_dict", Dict{{"7.weight", torch::full({100'000}, 7, torch::kFloat)}}},
                            {"list", List{nullptr, torch::zeros({5})}},
                            {"epoch", 3}};
  const auto memory = std::make_shared<MemoryStorage>();
  std::vector<std::unique_ptr<CheckpointIO>> plugins;
  plugins.push_back(std::make_unique<PythonCheckpointIO>(memory));
  plugins.push_back(std::make_unique<SafetensorsCheckpointIO>(memory));
  plugins.push_back(std::make_unique<TorchCheckpointIO>(memory));
  for (const auto& plugin : plugins) {
    plugin->save_checkpoint(many_tensors(), "x");
    asked.clear();
    CHECK(plugin->load_checkpoint("x", {.filter = wanted}).value() == expected);
    CHECK(asked.size() == 52);
  }
  const Checkpoint meta =
      PythonCheckpointIO(memory).load_checkpoint("x", {.map_location = "meta", .filter = wanted}).value();
  CHECK(meta.at("state_dict").at("7.weight").as<at::Tensor>().is_meta());
}

TEST_CASE("A part costs the bytes of that part and the directory", "[python]") {
  const test::TempFolder folder;
  const auto storage = std::make_shared<test::FaultyStorage>(std::make_shared<LocalStorage>());
  const auto wanted = [](const std::string& name) { return name == "state_dict.7.weight"; };
  std::vector<std::unique_ptr<CheckpointIO>> plugins;
  plugins.push_back(std::make_unique<PythonCheckpointIO>(storage));
  plugins.push_back(std::make_unique<SafetensorsCheckpointIO>(storage));
  for (const auto& plugin : plugins) {
    plugin->save_checkpoint(many_tensors(), folder / "x");
    storage->reset_counts();
    CHECK(plugin->load_checkpoint(folder / "x", {.filter = wanted})->at("state_dict").as<Dict>().size() == 1);
    // The tensor, a page for each of the headers, and where the end record may stand.
    CHECK(storage->counts().bytes_read < 400'000 + 55 * 4096 + 70'000);
  }
}

TEST_CASE("A filter changes nothing of how tensors are loaded", "[python]") {
  const test::TempFolder folder;
  const std::string path = folder / "x.ckpt";
  PythonCheckpointIO io;
  const auto all = [](const std::string&) { return true; };
  const at::Tensor values = torch::rand({500});
  io.save_checkpoint({{"sparse", torch::sparse_coo_tensor(torch::arange(500).unsqueeze(0), values, {500})},
                      {"dense", torch::rand({300})}},
                     path);
  const Checkpoint meta = io.load_checkpoint(path, {.map_location = "meta", .filter = all}).value();
  CHECK(meta.at("sparse").as<at::Tensor>().is_meta());
  CHECK(meta.at("dense").as<at::Tensor>().is_meta());
  const auto n_mappings = [&path] {
    std::ifstream maps("/proc/self/maps");
    int n = 0;
    for (std::string line; std::getline(maps, line);) n += line.ends_with(path) ? 1 : 0;
    return n;
  };
  {
    const Checkpoint mapped = io.load_checkpoint(path, {.mmap = true, .filter = all}).value();
    CHECK(mapped == io.load_checkpoint(path));
#ifdef __linux__
    CHECK(n_mappings() == 1);
#endif
  }
  LocalStorage storage;
  std::string bytes = test::read_file(storage, path);
  const std::size_t at = bytes.find(std::string(static_cast<const char*>(values.const_data_ptr()), values.nbytes()));
  REQUIRE(at != std::string::npos);
  bytes[at + 100] ^= 1;
  test::write_file(storage, path, bytes);
  for (const bool mmap : {false, true}) {
    CHECK_THROWS_AS(io.load_checkpoint(path, {.mmap = mmap}), CorruptError);
    CHECK_THROWS_AS(io.load_checkpoint(path, {.mmap = mmap, .filter = all}), CorruptError);
  }
}

TEST_CASE("A tensor whose elements are not all in memory is refused, and the old file stays", "[python]") {
  const auto storage = std::make_shared<MemoryStorage>();
  const auto freed = torch::rand({1000}), cut = torch::rand({1000});
  freed.storage().set_nbytes(0);
  cut.storage().set_nbytes(16);
  const std::vector<std::shared_ptr<CheckpointIO>> plugins{std::make_shared<PythonCheckpointIO>(storage),
                                                           std::make_shared<SafetensorsCheckpointIO>(storage),
                                                           std::make_shared<TorchCheckpointIO>(storage)};
  for (const auto& io : plugins) {
    io->save_checkpoint({{"epoch", 1}}, "x");
    for (const at::Tensor& tensor : {freed, cut, torch::_efficientzerotensor({1000})}) {
      const Checkpoint checkpoint{{"model", Dict{{"w", tensor}}}};
      CHECK_THROWS_WITH(io->save_checkpoint(checkpoint, "x"),
                        ContainsSubstring("x") && ContainsSubstring("checkpoint['model']['w']") &&
                            ContainsSubstring("a tensor of 4000 bytes, of which its storage has"));
      CHECK(io->load_checkpoint("x") == Checkpoint{{"epoch", 1}});
    }
  }
}

TEST_CASE("What no reader would take is not saved", "[python]") {
  const auto storage = std::make_shared<MemoryStorage>();
  PythonCheckpointIO io(storage);
  Dict named_by_number;
  named_by_number.set_type(DictType::ordered_dict);
  named_by_number.attributes()[7] = 1;
  CHECK_THROWS_WITH(io.save_checkpoint({{"d", named_by_number}}, "x"),
                    "cannot save 'x': checkpoint['d'].__dict__[7]: no name for an attribute, which readers refuse");
  named_by_number.attributes() = Dict{{"__class__", 1}};
  CHECK_THROWS_AS(io.save_checkpoint({{"d", named_by_number}}, "x"), ValueError);
  CHECK_THROWS_WITH(io.save_checkpoint({{"b", Bytes(std::string(200'000'000, '\xff'))}}, "x"),
                    ContainsSubstring("cannot save 'x': too much beside the tensors"));
  CHECK_FALSE(storage->exists("x"));
}

#ifdef __linux__
TEST_CASE("Tensors with other strides are written without LibTorch's threads", "[python]") {
  const auto n_threads = [] {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  const int before = at::get_num_threads();
  at::set_num_threads(4);
  const Checkpoint checkpoint{{"t", torch::rand({3000, 3000}).t()}};
  (void)checkpoint.at("t").as<at::Tensor>().contiguous();  // starts those of this thread
  const auto n_others = n_threads();
  PythonCheckpointIO io({.storage = std::make_shared<MemoryStorage>(), .n_threads = 3});
  io.save_checkpoint(checkpoint, "x");
  CHECK(n_threads() <= n_others + 2);
  CHECK(io.load_checkpoint("x") == checkpoint);
  at::set_num_threads(before);
}

TEST_CASE("A process that was forked off saves, loads and ends", "[python]") {
  const test::TempFolder folder;
  PythonCheckpointIO io({.n_threads = 3});
  const Checkpoint checkpoint{{"t", torch::rand({3'000'000})}};
  io.save_checkpoint(checkpoint, folder / "x.ckpt");
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(60);
    io.save_checkpoint(checkpoint, folder / "y.ckpt");
    const bool is_same = io.load_checkpoint(folder / "y.ckpt")->at("t").as<at::Tensor>().nbytes() == 12'000'000;
    io.teardown();
    ::_exit(is_same ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(io.load_checkpoint(folder / "y.ckpt") == checkpoint);
}
#endif

TEST_CASE("A part of a state is restored, and damage elsewhere does not matter", "[python][in_place]") {
  const test::TempFolder folder;
  PythonCheckpointIO io;
  io.save_checkpoint(many_tensors(), folder / "x.ckpt");
  std::string bytes = test::read_file(LocalStorage(), folder / "x.ckpt");
  bytes[bytes.size() / 2] ^= 1;
  LocalStorage local;
  test::write_file(local, folder / "x.ckpt", bytes);
  struct Weight : torch::nn::Module {
    Weight() { register_buffer("weight", torch::zeros({100'000})); }
  } module;
  State state;
  torch::nn::Module root;
  root.register_module("7", std::shared_ptr<torch::nn::Module>(std::shared_ptr<void>(), &module));
  state.add("state_dict", root);
  const auto wanted = [](const std::string& name) { return name == "state_dict.7.weight"; };
  const auto rest = io.load_checkpoint(folder / "x.ckpt", {.state = &state, .filter = wanted});
  CHECK(rest == Checkpoint{{"list", List{nullptr, nullptr}}, {"epoch", 3}});
  CHECK(module.named_buffers()["weight"].eq(7).all().item<bool>());
}

TEST_CASE("A flipped bit anywhere in the contents is found", "[python]") {
  auto inner = std::make_shared<MemoryStorage>();
  PythonCheckpointIO(inner).save_checkpoint(training_state(), "x.ckpt");
  const auto n_bits = inner->open("x.ckpt")->size() * 8;
  auto storage = std::make_shared<test::FaultyStorage>(inner);
  PythonCheckpointIO io(storage);
  for (std::uint64_t bit = 0; bit < n_bits; bit += 61) {
    storage->faults().flip_bit = bit;
    bool is_found_or_harmless = false;
    try {
      is_found_or_harmless = io.load_checkpoint("x.ckpt").value() == training_state();  // a bit of padding
    } catch (const CorruptError&) {
      is_found_or_harmless = true;
    } catch (const UnsupportedError&) {
      is_found_or_harmless = true;
    }
    INFO("bit " << bit);
    CHECK(is_found_or_harmless);
  }
}

TEST_CASE("A file cut off anywhere is an error", "[python]") {
  auto inner = std::make_shared<MemoryStorage>();
  PythonCheckpointIO(inner).save_checkpoint(training_state(), "x.ckpt");
  auto storage = std::make_shared<test::FaultyStorage>(inner);
  PythonCheckpointIO io(storage);
  for (std::uint64_t size = 0; size < inner->open("x.ckpt")->size(); size += 37) {
    storage->faults().truncate_to = size;
    CHECK_THROWS_AS(io.load_checkpoint("x.ckpt"), Error);
  }
}

TEST_CASE("A save that fails at any byte leaves the old checkpoint", "[python]") {
  auto inner = std::make_shared<MemoryStorage>();
  auto storage = std::make_shared<test::FaultyStorage>(inner);
  PythonCheckpointIO io(storage);
  io.save_checkpoint({{"old", 1}}, "x.ckpt");
  Checkpoint large = training_state();
  large["large"] = torch::zeros({700000});
  for (const std::uint64_t limit : {0, 100, 1 << 20, 2 << 20}) {
    storage->reset_counts();
    storage->faults().fail_at_written_byte = limit;
    CHECK_THROWS_AS(io.save_checkpoint(large, "x.ckpt"), IoError);
    storage->faults().fail_at_written_byte.reset();
    CHECK(io.load_checkpoint("x.ckpt").value() == Checkpoint{{"old", 1}});
  }
  CHECK_THROWS_AS(io.save_checkpoint({{"deep", nullptr}, {"null", TypedStorage{}}}, "x.ckpt"), ValueError);
  CHECK(io.load_checkpoint("x.ckpt").value() == Checkpoint{{"old", 1}});
}

TEST_CASE("Thousands of small tensors are written and read in a few calls", "[python]") {
  auto storage = std::make_shared<test::FaultyStorage>(std::make_shared<MemoryStorage>());
  PythonCheckpointIO io(storage);
  Dict many;
  for (int i = 0; i < 3000; ++i) many["p" + std::to_string(i)] = torch::full({5}, i);
  io.save_checkpoint(many, "x.ckpt");
  CHECK(storage->counts().appends < 20);
  CHECK(io.load_checkpoint("x.ckpt").value() == many);
  CHECK(storage->counts().reads < 30);
}

TEST_CASE("Values nested to the bound come back, deeper ones are an error", "[python]") {
  const auto nested = [](int depth) {
    Value value = 1;
    for (int i = 0; i < depth; ++i) value = List{std::move(value)};
    return value;
  };
  CHECK(round_trip(nested(900)) == nested(900));
  CHECK_THROWS_AS(round_trip(nested(1001)), ValueError);
}

TEST_CASE("load_checkpoint sees the format in the bytes", "[python]") {
  MemoryStorage storage;
  const auto shared = std::shared_ptr<StorageBackend>(std::shared_ptr<void>(), &storage);
  PythonCheckpointIO(shared).save_checkpoint(training_state(), "a");
  TorchCheckpointIO(shared).save_checkpoint(training_state(), "b");
  CHECK(load_checkpoint(storage, "a") == training_state());
  CHECK(load_checkpoint(storage, "b") == training_state());
  PythonCheckpointIO(shared).save_value(torch::ones({2}), "c");
  CHECK(load_value(storage, "c") == torch::ones({2}));
  CHECK(load_value(storage, "b") == training_state());
  CHECK_THROWS_AS(load_checkpoint(storage, "c"), TypeError);
  test::write_file(storage, "d", "no checkpoint");
  CHECK_THROWS_AS(load_checkpoint(storage, "d"), Error);
  CHECK_THROWS_WITH(load_checkpoint(storage, "none"), Equals("Checkpoint file not found: none"));
}
