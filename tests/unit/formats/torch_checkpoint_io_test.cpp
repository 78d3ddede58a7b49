// SPDX-License-Identifier: Apache-2.0
#include "ckptio/formats/torch_checkpoint_io.h"

#include <sys/resource.h>
#include <torch/torch.h>

#include <csignal>
#include <filesystem>
#include <limits>
#include <set>

#include "ckptio/storage/local_storage.h"
#include "ckptio/storage/memory_storage.h"
#include "support/catch.h"
#include "support/faulty_storage.h"
#include "support/temp_folder.h"
#include "support/training_state.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;
using ckptio::test::Equals;
using ckptio::test::training_state;

namespace {

Checkpoint round_trip(const Checkpoint& checkpoint, const LoadOptions& options = {}) {
  TorchCheckpointIO io(std::make_shared<MemoryStorage>());
  io.save_checkpoint(checkpoint, "x.ckpt");
  return io.load_checkpoint("x.ckpt", options).value();
}

std::ptrdiff_t n_files(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

void* data_of(const Value& value) { return value.as<at::Tensor>().storage().mutable_data(); }

}  // namespace

TEST_CASE("Every plain value comes back equal, types and order included", "[torch]") {
  const Checkpoint original{{"int", 3},
                            {"negative", std::numeric_limits<std::int64_t>::min()},
                            {"big", std::numeric_limits<std::uint64_t>::max()},
                            {"double", 0.1},
                            {"inf", -std::numeric_limits<double>::infinity()},
                            {"nan", std::nan("")},
                            {"bool", true},
                            {"none", nullptr},
                            {"complex", std::complex<double>(1, -2)},
                            {"string", std::string("nul\0 quote\" line\n \xc3\xa9", 20)},
                            {"bytes", Bytes("\x00\xff\x80", 3)},
                            {"empty", List{Dict{}, List{}, Tuple{}, "", Bytes()}},
                            {"list", List{1, 2.5, "x", nullptr, List{true}}},
                            {"tuple", Tuple{1, Tuple{2}, List{}}},
                            {"ints", Dict{{3, "three"}, {-1, "minus one"}}},
                            {"mixed", Dict{{"a", 1}, {2, "b"}, {true, 3}, {nullptr, 4}, {Tuple{1, "x"}, 5}}},
                            {"", "a key of no characters"},
                            {"quote\" and\nline", 1},
                            {"class", 1}};
  const Checkpoint loaded = round_trip(original);
  CHECK(loaded == original);
  CHECK(to_string(loaded) == to_string(original));
}

TEST_CASE("A checkpoint without entries, or with other keys than strings, comes back", "[torch]") {
  CHECK(round_trip({}) == Checkpoint{});
  CHECK(round_trip({{1, "a"}}) == Checkpoint{{1, "a"}});
  CHECK(round_trip({{1, "a"}, {"b", 2}}) == Checkpoint{{1, "a"}, {"b", 2}});
}

TEST_CASE("Tensors of every dtype come back equal", "[torch]") {
  Checkpoint original;
  for (const auto type : {torch::kBool,
                          torch::kByte,
                          torch::kChar,
                          torch::kShort,
                          torch::kInt,
                          torch::kLong,
                          torch::kHalf,
                          torch::kBFloat16,
                          torch::kFloat,
                          torch::kDouble,
                          torch::kComplexHalf,
                          torch::kComplexFloat,
                          torch::kComplexDouble,
                          torch::kUInt16,
                          torch::kUInt32,
                          torch::kUInt64,
                          torch::kFloat8_e4m3fn,
                          torch::kFloat8_e5m2,
                          torch::kFloat8_e4m3fnuz,
                          torch::kFloat8_e5m2fnuz}) {
    at::Tensor octets = torch::randint(0, 2, {3 * static_cast<std::int64_t>(c10::elementSize(type))}, torch::kByte);
    original[c10::toString(type)] = octets.view(type);
  }
  original["quantized"] = torch::quantize_per_tensor(torch::rand({4}), 0.1, 3, torch::kQInt8);
  original["sparse"] = torch::eye(3).to_sparse();
  original["csr"] = torch::eye(3).to_sparse_csr();
  original["conj"] = torch::rand({3}, torch::kComplexFloat).conj();
  original["undefined"] = at::Tensor();
  const Checkpoint loaded = round_trip(original);
  for (const auto& [key, value] : original) {
    INFO(key);
    CHECK(loaded.at(key) == value);
  }
  CHECK(loaded.at("conj").as<at::Tensor>().is_conj());
}

TEST_CASE("Shapes, strides, offsets and requires_grad come back", "[torch]") {
  const auto base = torch::arange(24, torch::kFloat);
  const Checkpoint original{{"scalar", torch::tensor(2.5)},
                            {"empty", torch::empty({0, 4})},
                            {"transposed", base.view({4, 6}).t()},
                            {"slice", base.slice(0, 5, 20, 3)},
                            {"expanded", torch::ones({1}).expand({3})},
                            {"grad", torch::ones({2}, torch::requires_grad())}};
  const Checkpoint loaded = round_trip(original);
  CHECK(loaded == original);
  for (const auto& [key, value] : original) {
    const auto& expected = value.as<at::Tensor>();
    const auto& found = loaded.at(key).as<at::Tensor>();
    CHECK(found.strides() == expected.strides());
    CHECK(found.storage_offset() == expected.storage_offset());
    CHECK(found.requires_grad() == expected.requires_grad());
  }
}

TEST_CASE("Tensors that share a storage share it after loading, whatever their dtype", "[torch]") {
  const auto base = torch::arange(12, torch::kFloat);
  const Checkpoint loaded = round_trip({{"a", base},
                                        {"b", List{base.view({3, 4}).t(), base.slice(0, 2, 5)}},
                                        {"bytes", base.view(torch::kByte)},
                                        {"ints", base.view(torch::kInt).slice(0, 3, 6)},
                                        {"other", base.clone()}});
  const std::set<void*> addresses{data_of(loaded.at("a")), data_of(loaded.at("b").at(0)), data_of(loaded.at("b").at(1)),
                                  data_of(loaded.at("bytes")), data_of(loaded.at("ints"))};
  CHECK(addresses.size() == 1);
  CHECK(data_of(loaded.at("other")) != data_of(loaded.at("a")));
  CHECK(loaded.at("ints") == Value(base.view(torch::kInt).slice(0, 3, 6)));
  loaded.at("a").as<at::Tensor>().zero_();
  CHECK(loaded.at("bytes").as<at::Tensor>().sum().item<int64_t>() == 0);
}

TEST_CASE("A storage that is no whole number of items comes back whole", "[torch]") {
  const auto octets = torch::arange(10, torch::kByte);
  const auto floats = torch::empty({0}, torch::kFloat).set_(octets.storage(), 0, {2}, {1});
  const Checkpoint loaded = round_trip({{"floats", floats}, {"octets", octets}});
  CHECK(loaded.at("floats") == Value(floats));
  CHECK(loaded.at("octets") == Value(octets));
  CHECK(data_of(loaded.at("floats")) == data_of(loaded.at("octets")));
}

TEST_CASE("Meta tensors keep shape and dtype", "[torch]") {
  const auto meta = torch::empty({2, 3}, torch::TensorOptions(torch::kMeta).dtype(torch::kHalf)).t();
  const Checkpoint loaded = round_trip({{"m", meta}});
  const auto& found = loaded.at("m").as<at::Tensor>();
  CHECK(found.is_meta());
  CHECK(found.sizes() == meta.sizes());
  CHECK(found.strides() == meta.strides());
  CHECK(found.scalar_type() == torch::kHalf);
}

TEST_CASE("Many tensors come back", "[torch]") {
  Dict tensors;
  for (int i = 0; i < 2000; ++i) tensors["t" + std::to_string(i)] = torch::full({3}, i);
  CHECK(round_trip({{"state_dict", tensors}}) == Checkpoint{{"state_dict", tensors}});
}

TEST_CASE("torch::save and torch::load take a Checkpoint", "[torch]") {
  const test::TempFolder folder;
  const std::string path = folder / "x.pt";
  torch::save(training_state(), path);
  Checkpoint loaded;
  torch::load(loaded, path);
  CHECK(loaded == training_state());
  CHECK(TorchCheckpointIO().load_checkpoint(path) == training_state());
}

TEST_CASE("storage_options are a TypeError, even empty ones", "[torch]") {
  const auto storage = std::make_shared<MemoryStorage>();
  TorchCheckpointIO io(storage);
  CHECK_THROWS_AS(io.save_checkpoint({}, "x", Dict{}), TypeError);
  CHECK_THROWS_WITH(io.save_checkpoint({}, "x", Dict{}),
                    ContainsSubstring("with `storage_options` arg is not supported for `TorchCheckpointIO`"));
  class MyIO : public TorchCheckpointIO {
  } mine;
  CHECK_THROWS_WITH(mine.save_checkpoint({}, "x", Dict{{"a", 1}}), ContainsSubstring("for `MyIO`"));
  CHECK_FALSE(storage->exists("x"));
}

TEST_CASE("Loading what is not there names the path, removing it is no error", "[torch]") {
  TorchCheckpointIO io;
  CHECK_THROWS_AS(io.load_checkpoint("no/such.ckpt"), NotFoundError);
  CHECK_THROWS_WITH(io.load_checkpoint("no/such.ckpt"), Equals("Checkpoint file not found: no/such.ckpt"));
  io.remove_checkpoint("no/such.ckpt");
}

TEST_CASE("Parent folders are made and removal is recursive", "[torch]") {
  const test::TempFolder folder;
  TorchCheckpointIO io;
  const auto path = folder / "a/b/x.ckpt";
  io.save_checkpoint({{"epoch", 1}}, path);
  CHECK(io.load_checkpoint(path)->at("epoch") == 1);
  io.remove_checkpoint(folder / "a");
  CHECK_FALSE(std::filesystem::exists(folder / "a"));
}

TEST_CASE("A writer that fails at any call leaves the old checkpoint whole and the process alive", "[torch]") {
  const auto memory = std::make_shared<MemoryStorage>();
  TorchCheckpointIO good(memory);
  good.save_checkpoint({{"epoch", 1}}, "runs/x");
  int n_failed = 0;
  for (std::size_t n = 1;; ++n) {
    const auto faulty = std::make_shared<test::FaultyStorage>(memory);
    faulty->faults().fail_at_append = n;
    try {
      TorchCheckpointIO(faulty).save_checkpoint(training_state(), "runs/x");
      break;
    } catch (const IoError&) {
      ++n_failed;
    }
    REQUIRE(good.load_checkpoint("runs/x") == Checkpoint{{"epoch", 1}});
    REQUIRE(memory->list("runs") == std::vector<std::string>{"x"});
  }
  CHECK(n_failed > 10);
  CHECK(good.load_checkpoint("runs/x") == training_state());
}

TEST_CASE("A reader that fails is the storage's error, not LibTorch's", "[torch]") {
  const auto memory = std::make_shared<MemoryStorage>();
  TorchCheckpointIO(memory).save_checkpoint(training_state(), "runs/x");
  int n_failed = 0;
  for (std::size_t n = 1;; ++n) {
    const auto faulty = std::make_shared<test::FaultyStorage>(memory);
    faulty->faults().fail_at_read = n;
    try {
      const auto loaded = TorchCheckpointIO(faulty).load_checkpoint("runs/x");
      CHECK(loaded == training_state());
      break;
    } catch (const IoError&) {
      ++n_failed;
    }
  }
  CHECK(n_failed > 10);
}

TEST_CASE("A disk that is full, at any byte, leaves the old file and no litter", "[torch][crash]") {
  const test::TempFolder folder;
  const auto local = std::make_shared<LocalStorage>();
  TorchCheckpointIO good(local);
  const std::string path = folder / "x.ckpt";
  good.save_checkpoint({{"epoch", 1}}, path);
  for (const std::uint64_t room : {0, 1, 100, 500, 900, 1500}) {
    const auto full = std::make_shared<test::FaultyStorage>(local);
    full->faults().fail_at_written_byte = room;
    CHECK_THROWS_AS(TorchCheckpointIO(full).save_checkpoint(training_state(), path), IoError);
    CHECK(good.load_checkpoint(path) == Checkpoint{{"epoch", 1}});
    CHECK(n_files(folder.path()) == 1);
  }
}

TEST_CASE("A file larger than the system allows is an IoError, not the end of the process", "[torch][crash]") {
  const test::TempFolder folder;
  TorchCheckpointIO io;
  const std::string path = folder / "x.ckpt";
  io.save_checkpoint({{"epoch", 1}}, path);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100'000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    io.save_checkpoint({{"w", torch::zeros({1'000'000})}}, path);
  } catch (const IoError& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  CHECK_THAT(message, ContainsSubstring(path) && ContainsSubstring("File too large"));
  CHECK(io.load_checkpoint(path) == Checkpoint{{"epoch", 1}});
  CHECK(n_files(folder.path()) == 1);
}

TEST_CASE("Paths that cannot be written are IoErrors that name them", "[torch]") {
  const test::TempFolder folder;
  TorchCheckpointIO io;
  std::filesystem::create_directory(folder / "a_folder");
  CHECK_THROWS_AS(io.save_checkpoint({}, folder / "a_folder"), IoError);
  CHECK_THROWS_WITH(io.save_checkpoint({}, folder / "a_folder"), ContainsSubstring(folder / "a_folder"));
  io.save_checkpoint({}, folder / "a_file");
  CHECK_THROWS_AS(io.save_checkpoint({}, folder / "a_file/x.ckpt"), IoError);
  CHECK_THROWS_AS(io.load_checkpoint(folder / "a_folder"), IoError);
}

TEST_CASE("A value that LibTorch cannot write is an error that loses nothing", "[torch]") {
  const auto memory = std::make_shared<MemoryStorage>();
  TorchCheckpointIO io(memory);
  io.save_checkpoint({{"epoch", 1}}, "x");
  Value deep = 1;
  for (int i = 0; i < 300; ++i) deep = List{std::move(deep)};
  CHECK_THROWS_AS(io.save_checkpoint({{"deep", deep}}, "x"), ValueError);
  CHECK(io.load_checkpoint("x") == Checkpoint{{"epoch", 1}});
}

TEST_CASE("map_location moves every tensor, in each of its forms", "[torch]") {
  const Checkpoint original{{"a", torch::ones({2})}, {"sparse", torch::eye(2).to_sparse()}};
  const auto device = [](const Checkpoint& checkpoint) { return checkpoint.at("a").as<at::Tensor>().device().str(); };
  CHECK(device(round_trip(original)) == "cpu");
  CHECK(device(round_trip(original, {.map_location = "meta"})) == "meta");
  CHECK(device(round_trip(original, {.map_location = std::string("meta")})) == "meta");
  CHECK(device(round_trip(original, {.map_location = torch::kMeta})) == "meta");
  CHECK(device(round_trip(original, {.map_location = torch::Device("meta")})) == "meta");
  CHECK(device(round_trip(original, {.map_location = {{"cpu", "meta"}}})) == "meta");
  CHECK(device(round_trip(original, {.map_location = {{"cuda:1", "meta"}, {"cuda:0", "meta"}}})) == "cpu");
  CHECK(device(round_trip(original, {.map_location = [](const std::string&) { return "meta"; }})) == "meta");
  CHECK(device(round_trip(original, {.map_location = [](const torch::Storage& s, const std::string&) { return s; }})) ==
        "cpu");
  CHECK(device(round_trip(original, {.map_location = [](std::string) { return torch::kMeta; }})) == "meta");
}

TEST_CASE("A map_location function sees each storage once, and aliases stay aliases", "[torch]") {
  const auto base = torch::arange(4, torch::kFloat);
  std::vector<std::string> seen;
  const Checkpoint loaded =
      round_trip({{"a", base}, {"b", base.slice(0, 1, 3)}},
                 {.map_location = [&seen](const torch::Storage& storage, const std::string& location) {
                   seen.push_back(location);
                   torch::Storage copy = torch::empty({static_cast<int64_t>(storage.nbytes())}, torch::kByte).storage();
                   std::memcpy(copy.mutable_data(), storage.data(), storage.nbytes());
                   return copy;
                 }});
  CHECK(seen == std::vector<std::string>{"cpu"});
  CHECK(loaded.at("b") == Value(base.slice(0, 1, 3)));
  CHECK(data_of(loaded.at("a")) == data_of(loaded.at("b")));
}

TEST_CASE("A map_location that cannot be followed is a clear error", "[torch]") {
  const Checkpoint original{{"a", torch::ones({2})}};
  CHECK_THROWS_AS(MapLocation("no such device"), ValueError);
  CHECK_THROWS_WITH(MapLocation("gpu0"), ContainsSubstring("'gpu0' is not the name of a device"));
  if (!torch::cuda::is_available()) {
    CHECK_THROWS_AS(round_trip(original, {.map_location = "cuda:0"}), UnsupportedError);
    CHECK_THROWS_WITH(round_trip(original, {.map_location = {{"cpu", "cuda:3"}}}), ContainsSubstring("'cuda:3'"));
  }
  CHECK_THROWS_AS(round_trip(original, {.map_location =
                                            [](const torch::Storage&, const std::string&) {
                                              return torch::empty({1}, torch::kByte).storage();
                                            }}),
                  ValueError);
}

TEST_CASE("weights_only accepts plain values and tensors", "[torch]") {
  CHECK(round_trip(training_state(), {.weights_only = true}) == training_state());
  CHECK(round_trip(training_state(), {.weights_only = false}) == training_state());
}

TEST_CASE("Archives of torch::save are read as Dicts of their attributes", "[torch]") {
  const test::TempFolder folder;
  const std::string path = folder / "x.pt";
  torch::nn::Sequential model(torch::nn::Linear(3, 2), torch::nn::BatchNorm1d(2));
  torch::save(model, path);
  const auto loaded = TorchCheckpointIO().load_checkpoint(path);
  CHECK(loaded->at("0").at("weight") == Value(model->parameters()[0].detach()));
  CHECK(loaded->at("1").contains("running_mean"));
  torch::save(std::vector<at::Tensor>{torch::ones({2}), torch::zeros({3})}, path);
  CHECK(TorchCheckpointIO().load_checkpoint(path)->at("1") == Value(torch::zeros({3})));
}

TEST_CASE("A null storage is refused at once", "[torch]") {
  CHECK_THROWS_AS(TorchCheckpointIO(std::shared_ptr<StorageBackend>()), ValueError);
}
