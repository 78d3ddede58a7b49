// SPDX-License-Identifier: Apache-2.0
// load_checkpoint(path, {.state = &state}) of PythonCheckpointIO and SafetensorsCheckpointIO; and other dtypes also in
// State::load_state_dict.
#include <torch/torch.h>

#include <filesystem>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/opaque.h"
#include "ckptio/state.h"
#include "ckptio/storage/local_storage.h"
#include "ckptio/storage/memory_storage.h"
#include "support/catch.h"
#include "support/damage.h"
#include "support/keeper.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;
using ckptio::test::damage;
using ckptio::test::flip_bit;
using ckptio::test::Keeper;
using ckptio::test::TempFolder;

namespace {

struct Run {
  explicit Run(std::int64_t seed) {
    torch::manual_seed(seed);
    net = torch::nn::Sequential(torch::nn::Linear(64, 300), torch::nn::BatchNorm1d(300), torch::nn::Linear(300, 5));
    adam = std::make_unique<torch::optim::Adam>(net->parameters(), 0.01);
    net->forward(torch::randn({8, 64})).pow(2).mean().backward();
    adam->step();
    state.add("state_dict", *net).add("optimizer", *adam);
  }

  std::vector<const void*> addresses() const {
    std::vector<const void*> found;
    const Dict all = state.state_dict();
    for (const auto& [name, tensor] : all.at("state_dict").as<Dict>()) {
      found.push_back(tensor.as<at::Tensor>().const_data_ptr());
    }
    for (const auto& [index, saved] : all.at("optimizer").at("state").as<Dict>()) {
      found.push_back(saved.at("exp_avg").as<at::Tensor>().const_data_ptr());
    }
    return found;
  }

  Dict copy() const {
    PythonCheckpointIO io(std::make_shared<MemoryStorage>());
    io.save_checkpoint(state.state_dict(), "copy");
    return *io.load_checkpoint("copy");
  }

  torch::nn::Sequential net;
  std::unique_ptr<torch::optim::Adam> adam;
  State state;
};

struct Buffers : torch::nn::Module {
  Buffers(at::Tensor a, at::Tensor b) {
    register_buffer("a", std::move(a));
    register_buffer("b", std::move(b));
  }
};

struct Counter {
  int n = 1;
  Dict state_dict() const { return {{"n", n}}; }
  void load_state_dict(const Dict& state) { n = state.at("n").as<std::int64_t>(); }
};

}  // namespace

TEST_CASE("A state is restored from the file into the memory it has", "[python][in_place]") {
  const TempFolder folder;
  const std::vector<std::shared_ptr<StorageBackend>> storages{std::make_shared<LocalStorage>(),
                                                              std::make_shared<MemoryStorage>()};
  for (const auto& storage : storages) {
    PythonCheckpointIO io(storage);
    const Run saved(1);
    io.save_checkpoint(saved.state.state_dict(), folder / "a.ckpt");
    Run run(2);
    REQUIRE(run.copy() != saved.copy());
    const auto addresses = run.addresses();
    CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &run.state}) == std::nullopt);
    CHECK(run.copy() == saved.copy());
    CHECK(run.addresses() == addresses);
  }
}

TEST_CASE("What a state has no name for is returned, and is not the file's any more", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  Checkpoint checkpoint = Run(1).state.state_dict();
  const at::Tensor shared = torch::rand({40, 3});
  checkpoint["epoch"] = 3;
  checkpoint["mean"] = shared.t();
  checkpoint["again"] = shared;
  checkpoint["hparams"] = Opaque::make_object("argparse.Namespace", Dict{{"table", shared}});
  io.save_checkpoint(checkpoint, folder / "a.ckpt");
  Run run(2);
  const auto rest = io.load_checkpoint(folder / "a.ckpt", {.state = &run.state});
  REQUIRE(rest);
  std::filesystem::resize_file(folder / "a.ckpt", 0);
  CHECK(rest->size() == 4);
  CHECK(rest->at("epoch") == Value(3));
  CHECK(rest->at("mean") == Value(shared.t()));
  CHECK(rest->at("again").as<at::Tensor>().is_alias_of(rest->at("mean").as<at::Tensor>()));
  const Value table = rest->at("hparams").as<Opaque>().fields().at("table");
  CHECK(table == Value(shared));
  CHECK(table.as<at::Tensor>().is_alias_of(rest->at("again").as<at::Tensor>()));
}

TEST_CASE("A file that does not fit or is damaged changes nothing", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  Checkpoint checkpoint = Run(1).state.state_dict();
  Run run(2);
  const Dict before = run.copy();

  checkpoint["optimizer"].at("state").at(5)["exp_avg"] = torch::zeros({6});
  io.save_checkpoint(checkpoint, folder / "shape.ckpt");
  CHECK_THROWS_AS(io.load_checkpoint(folder / "shape.ckpt", {.state = &run.state}), MismatchError);
  CHECK(run.copy() == before);

  io.save_checkpoint(Run(1).state.state_dict(), folder / "bit.ckpt");
  const auto size = std::filesystem::file_size(folder / "bit.ckpt");
  for (const std::uintmax_t at : {size / 2, size / 4}) flip_bit(folder / "bit.ckpt", at);
  CHECK_THROWS_AS(io.load_checkpoint(folder / "bit.ckpt", {.state = &run.state}), CorruptError);
  CHECK(run.copy() == before);

  io.save_checkpoint({{"state_dict", Dict{}}}, folder / "part.ckpt");
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "part.ckpt", {.state = &run.state}),
                    ContainsSubstring("optimizer") && ContainsSubstring("state_dict.0.weight"));
  CHECK(run.copy() == before);
  CHECK_THROWS_AS(io.load_checkpoint(folder / "shape.ckpt", {.state = &run.state, .map_location = "cpu"}), TypeError);
}

TEST_CASE("One pass gives the same, and says where damage leaves the state", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  const Run saved(1);
  io.save_checkpoint(saved.state.state_dict(), folder / "a.ckpt");
  Run run(2);
  CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &run.state, .transactional = false}) == std::nullopt);
  CHECK(run.copy() == saved.copy());

  const at::Tensor large = torch::rand({3'000'000});
  Buffers source(large, torch::ones({4}));
  io.save_checkpoint({{"state_dict", state_dict(source)}}, folder / "b.ckpt");
  Buffers live(torch::zeros({3'000'000}), torch::zeros({4}));
  State state;
  state.add("state_dict", live);
  flip_bit(folder / "b.ckpt", std::filesystem::file_size(folder / "b.ckpt") / 2);
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "b.ckpt", {.state = &state, .transactional = false}),
                    ContainsSubstring("CRC-32") && ContainsSubstring("no longer to be used"));
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "b.ckpt", {.state = &state}),
                    ContainsSubstring("CRC-32") && !ContainsSubstring("no longer to be used"));
  CHECK(io.load_checkpoint(folder / "b.ckpt", {.state = &state, .verify = false}) == std::nullopt);
  CHECK_FALSE(torch::equal(live.named_buffers()["a"], large));
}

TEST_CASE("In one pass, what is copied on the way is checked before anything changes", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  Buffers saved(torch::rand({1000, 2000}), torch::ones({4}));
  io.save_checkpoint({{"state_dict", state_dict(saved)}}, folder / "a.ckpt");
  Buffers live(torch::zeros({2000, 1000}).t(), torch::zeros({4}));
  State state;
  state.add("state_dict", live);
  flip_bit(folder / "a.ckpt", std::filesystem::file_size(folder / "a.ckpt") / 2);
  CHECK_THROWS_AS(io.load_checkpoint(folder / "a.ckpt", {.state = &state, .transactional = false}), CorruptError);
  CHECK(live.named_buffers()["a"].count_nonzero().item<std::int64_t>() == 0);
  CHECK(live.named_buffers()["b"].count_nonzero().item<std::int64_t>() == 0);
}

TEST_CASE("In one pass, what is no tensor's whole content is checked before anything changes", "[python][in_place]") {
  const TempFolder folder;
  const std::string path = folder / "a.ckpt";
  PythonCheckpointIO io;
  Run saved(1), live(2);
  Counter counter;
  live.state.add("counter", counter);
  const at::Tensor step = torch::full({}, 200.0F), base = torch::rand({1000}), extra = torch::rand({50});
  Checkpoint checkpoint = saved.copy();
  checkpoint["counter"] = Dict{{"n", 2}};
  checkpoint["extra"] = extra;
  const Dict before = live.copy();
  at::Tensor damaged;
  SECTION("an optimizer's step, which becomes a number") {
    Dict& optimizer_state = checkpoint.at("optimizer").mutable_as<Dict>().at("state").mutable_as<Dict>();
    optimizer_state.at(0).mutable_as<Dict>()["step"] = damaged = step;
  }
  SECTION("a view of a larger storage") {
    Dict& weights = checkpoint.at("state_dict").mutable_as<Dict>();
    weights["1.bias"] = base.slice(0, 0, 300);
    damaged = base.slice(0, 900);
  }
  SECTION("what the state has no name for") { damaged = extra; }
  io.save_checkpoint(checkpoint, path);
  damage(path, damaged);
  CHECK_THROWS_AS(io.load_checkpoint(path, {.state = &live.state, .transactional = false}), CorruptError);
  CHECK(live.copy() == before);
  CHECK(counter.n == 1);
}

TEST_CASE("Tensors that overlap in memory are restored in their order", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  Buffers saved(torch::full({500'000}, 1.0), torch::full({600'000}, 2.0));
  io.save_checkpoint({{"state_dict", state_dict(saved)}}, folder / "a.ckpt");
  for (const bool transactional : {true, false}) {
    const at::Tensor memory = torch::zeros({1'000'000});
    Buffers live(memory.slice(0, 0, 500'000), memory.slice(0, 400'000));
    State state;
    state.add("state_dict", live);
    CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state, .transactional = transactional}) == std::nullopt);
    CHECK(memory.slice(0, 0, 400'000).eq(1).all().item<bool>());
    CHECK(memory.slice(0, 400'000).eq(2).all().item<bool>());
  }
}

TEST_CASE("A state whose tensors have no memory is refused, and an empty tensor may stand anywhere",
          "[python][safetensors][in_place]") {
  const auto storage = std::make_shared<MemoryStorage>();
  const std::vector<std::shared_ptr<CheckpointIO>> plugins{std::make_shared<PythonCheckpointIO>(storage),
                                                           std::make_shared<SafetensorsCheckpointIO>(storage)};
  for (const auto& io : plugins) {
    Buffers saved(torch::rand({1000}), torch::zeros({4}).as_strided({0}, {1}, 1'000'000));
    io->save_checkpoint({{"m", state_dict(saved)}}, "x");
    for (const bool transactional : {true, false}) {
      const auto freed = torch::zeros({1000}), cut = torch::zeros({1000});
      freed.storage().set_nbytes(0);
      cut.storage().set_nbytes(16);
      for (const at::Tensor& target : {freed, cut, torch::_efficientzerotensor({1000})}) {
        Buffers live(target, torch::zeros({0}));
        State state;
        state.add("m", live);
        CHECK_THROWS_WITH(io->load_checkpoint("x", {.state = &state, .transactional = transactional}),
                          ContainsSubstring("m.a: the module's is a tensor of 4000 bytes, of which"));
      }
      Buffers live(torch::zeros({1000}), torch::zeros({0}));
      State state;
      state.add("m", live);
      CHECK(io->load_checkpoint("x", {.state = &state, .transactional = transactional}) == std::nullopt);
      CHECK(torch::equal(live.named_buffers()["a"], saved.named_buffers()["a"]));
    }
  }
}

TEST_CASE("Views of one storage are restored each into its own tensor", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  const at::Tensor base = torch::rand({400'000});
  Buffers saved(base.slice(0, 0, 300'000), base.slice(0, 100'000));
  io.save_checkpoint({{"state_dict", state_dict(saved)}}, folder / "a.ckpt");
  for (const bool transactional : {true, false}) {
    Buffers live(torch::zeros({300'000}), torch::zeros({300'000}));
    State state;
    state.add("state_dict", live);
    CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state, .transactional = transactional}) == std::nullopt);
    CHECK(torch::equal(live.named_buffers()["a"], base.slice(0, 0, 300'000)));
    CHECK(torch::equal(live.named_buffers()["b"], base.slice(0, 100'000)));
  }
}

TEST_CASE("A safetensors file is restored into the memory a state has", "[safetensors][in_place]") {
  const TempFolder folder;
  const std::vector<std::shared_ptr<StorageBackend>> storages{std::make_shared<LocalStorage>(),
                                                              std::make_shared<MemoryStorage>()};
  for (const auto& storage : storages) {
    SafetensorsCheckpointIO io(storage);
    const Run saved(1);
    Checkpoint checkpoint = saved.state.state_dict();
    checkpoint["epoch"] = 3;
    checkpoint["extra"] = torch::arange(1000);
    io.save_checkpoint(checkpoint, folder / "a.safetensors");
    Run run(2);
    const auto addresses = run.addresses();
    const auto rest = io.load_checkpoint(folder / "a.safetensors", {.state = &run.state});
    CHECK(rest == Checkpoint{{"epoch", 3}, {"extra", torch::arange(1000)}});
    CHECK(run.copy() == saved.copy());
    CHECK(run.addresses() == addresses);
    checkpoint["optimizer"].at("state").at(5)["exp_avg"] = torch::zeros({6});
    io.save_checkpoint(checkpoint, folder / "b.safetensors");
    CHECK_THROWS_AS(io.load_checkpoint(folder / "b.safetensors", {.state = &run.state}), MismatchError);
    CHECK(run.copy() == saved.copy());
  }
  CHECK(SafetensorsCheckpointIO({.restore_in_place = true}).requires_state_on_load());
  CHECK_FALSE(SafetensorsCheckpointIO().requires_state_on_load());
}

TEST_CASE("A safetensors file's dict of tensors is restored by name, or refused by name", "[safetensors][in_place]") {
  SafetensorsCheckpointIO io(std::make_shared<MemoryStorage>());
  const at::Tensor a = torch::rand({3, 4}), b = torch::rand({5});
  const auto restored = [&](const Checkpoint& checkpoint, const std::string& key) {
    io.save_checkpoint(checkpoint, "x");
    Buffers live(torch::zeros({3, 4}), torch::zeros({5}));
    State state = key.empty() ? State(live) : State();
    if (!key.empty()) state.add(key, live);
    const auto rest = io.load_checkpoint("x", {.state = &state});
    CHECK(torch::equal(live.named_buffers()["a"], a));
    CHECK(torch::equal(live.named_buffers()["b"], b));
    return rest;
  };
  CHECK(restored({{"m", Dict{{"a", a}, {"b", b}}}, {"epoch", 2}}, "m") == Checkpoint{{"epoch", 2}});
  CHECK(restored({{"m", Dict{{"b", b}, {"a", a}}}}, "m") == std::nullopt);  // in another order
  CHECK(restored({{"m", Dict{{"a", a.t().contiguous().t()}, {"b", b}}}}, "m") == std::nullopt);
  CHECK(restored({{"m", Dict{{"a", a}, {"b", b}}}, {"n", b}, {"k", Dict{{"a", a}}}}, "m") ==
        Checkpoint{{"n", b}, {"k", Dict{{"a", a}}}});
  CHECK(restored({{"a", a}, {"b", b}}, "") == std::nullopt);
  const auto refused = [&](const Dict& dict, const std::string& what) {
    io.save_checkpoint({{"m", dict}}, "x");
    Buffers live(torch::zeros({3, 4}), torch::zeros({5}));
    State state;
    state.add("m", live);
    CHECK_THROWS_WITH(io.load_checkpoint("x", {.state = &state}), ContainsSubstring(what));
    CHECK(torch::equal(live.named_buffers()["a"], torch::zeros({3, 4})));
  };
  refused({{"a", a}}, "missing (1):\n    m.b");
  refused({{"a", a}, {"b", b}, {"c", b.clone()}}, "unexpected (1):\n    m.c");
  refused({{"a", a}, {"b", torch::rand({6})}}, "m.b: shape [5] expected, found [6]");
  refused({{"a", a}, {"b", b.to(torch::kDouble)}}, "m.b");
}

TEST_CASE("Tensors of other strides, and large ones, are restored piece by piece", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  const at::Tensor large = torch::rand({3, 1500, 1000}), small = torch::rand({7, 5});
  Buffers saved(large, small.t());
  io.save_checkpoint({{"state_dict", state_dict(saved)}}, folder / "a.ckpt");
  const at::Tensor wide = torch::zeros({1500, 1000, 3, 2});
  Buffers live(wide.select(3, 1).permute({2, 0, 1}), torch::zeros({5, 7}));
  State state;
  state.add("state_dict", live);
  CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state}) == std::nullopt);
  CHECK(torch::equal(live.named_buffers()["a"], large));
  CHECK(torch::equal(live.named_buffers()["b"], small.t()));
  CHECK(wide.select(3, 0).count_nonzero().item<std::int64_t>() == 0);
}

TEST_CASE("Where two names have one tensor, the later one's value stays", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  io.save_checkpoint({{"state_dict", Dict{{"a", torch::ones({9})}, {"b", torch::full({9}, 2.0)}}}}, folder / "a.ckpt");
  const at::Tensor tied = torch::zeros({9});
  Buffers live(tied, tied);
  State state;
  state.add("state_dict", live);
  CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state}) == std::nullopt);
  CHECK(torch::equal(tied, torch::full({9}, 2.0)));
}

TEST_CASE("Objects that keep what they load get memory of their own", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  io.save_checkpoint({{"mine", Dict{{"x", torch::arange(1000)}}}}, folder / "a.ckpt");
  Keeper keeper;
  State state;
  state.add("mine", keeper);
  CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state}) == std::nullopt);
  std::filesystem::resize_file(folder / "a.ckpt", 0);
  CHECK(keeper.kept.at("x") == Value(torch::arange(1000)));
}

TEST_CASE("Memory that moves while objects are asked is followed", "[python][in_place]") {
  struct Mover {
    at::Tensor moved;
    Dict state_dict() const { return {}; }
    void load_state_dict(const Dict& /*state*/) {
      const auto n = moved.numel();
      moved.resize_({n * 4}).resize_({n});
    }
  };
  const TempFolder folder;
  PythonCheckpointIO io;
  const at::Tensor a = torch::rand({300'000}), b = torch::rand({10});
  Buffers saved(a, b);
  io.save_checkpoint({{"mover", Dict{}}, {"state_dict", state_dict(saved)}}, folder / "a.ckpt");
  for (const bool transactional : {true, false}) {
    Buffers live(torch::zeros({300'000}), torch::zeros({10}));
    Mover mover{live.named_buffers()["a"]};
    const void* const before = mover.moved.const_data_ptr();
    State state;
    state.add("mover", mover).add("state_dict", live);
    CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state, .transactional = transactional}) == std::nullopt);
    CHECK(mover.moved.const_data_ptr() != before);
    CHECK(torch::equal(live.named_buffers()["a"], a));
    CHECK(torch::equal(live.named_buffers()["b"], b));
  }
}

TEST_CASE("A module that is the whole state takes the whole file", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  Buffers saved(torch::rand({7}), torch::rand({3, 2}));
  io.save_checkpoint(state_dict(saved), folder / "a.ckpt");
  Buffers live(torch::zeros({7}), torch::zeros({3, 2}));
  State state(live), nothing;
  CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state}) == std::nullopt);
  CHECK(state_dict(live) == state_dict(saved));
  CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &nothing}) == state_dict(saved));
  Buffers other(torch::zeros({7}), torch::zeros({2, 3}));
  State misfit(other);
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "a.ckpt", {.state = &misfit}),
                    ContainsSubstring("b: shape [2, 3] expected, found [3, 2]") && !ContainsSubstring("a:"));
}

TEST_CASE("A module's tensors are found by their names, in any order", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  Dict saved;
  for (int i = 99; i >= 0; --i) saved["t" + std::to_string(i)] = torch::full({3}, i);
  io.save_checkpoint({{"state_dict", saved}, {"again", saved}}, folder / "a.ckpt");
  torch::nn::Module live;
  for (int i = 0; i < 100; ++i) live.register_buffer("t" + std::to_string(i), torch::zeros({3}, at::kLong));
  State state;
  state.add("state_dict", live);
  const auto rest = io.load_checkpoint(folder / "a.ckpt", {.state = &state});
  REQUIRE(rest);
  CHECK(*rest == Checkpoint{{"again", saved}});
  CHECK(state_dict(live) == saved);

  live.register_buffer("one_more", torch::zeros({3}));
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "a.ckpt", {.state = &state}),
                    ContainsSubstring("missing (1):\n    state_dict.one_more"));
  saved["one_less"] = torch::ones({1});
  io.save_checkpoint({{"state_dict", saved}}, folder / "a.ckpt");
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "a.ckpt", {.state = &state}),
                    ContainsSubstring("unexpected (1):\n    state_dict.one_less"));
}

TEST_CASE("A parameter and a buffer of one name do not hide what else the file has", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  io.save_checkpoint({{"state_dict", Dict{{"a", torch::ones({2})}, {"b", torch::ones({2})}}}}, folder / "a.ckpt");
  torch::nn::Module live;
  live.register_parameter("a", torch::zeros({2}));
  live.register_buffer("a", torch::zeros({2}));
  State state;
  state.add("state_dict", live);
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "a.ckpt", {.state = &state}), ContainsSubstring("state_dict.b"));
}

TEST_CASE("Dicts of tensors go to modules and to others beside each other", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  const at::Tensor shared = torch::rand({50});
  Buffers saved(torch::rand({7}), shared);
  io.save_checkpoint({{"mine", Dict{{"x", shared}}},
                      {"state_dict", state_dict(saved)},
                      {"rest", shared},
                      {"unknown", Opaque::make_object("argparse.Namespace", Dict{{"table", shared}})}},
                     folder / "a.ckpt");
  for (const bool transactional : {true, false}) {
    Buffers live(torch::zeros({7}), torch::zeros({50}));
    Keeper keeper;
    State state;
    state.add("mine", keeper).add("state_dict", live);
    auto rest = io.load_checkpoint(folder / "a.ckpt", {.state = &state, .transactional = transactional});
    REQUIRE(rest);
    CHECK(state_dict(live) == state_dict(saved));
    CHECK(keeper.kept == Dict{{"x", shared}});
    CHECK(rest->size() == 2);
    CHECK(rest->at("rest") == Value(shared));
    CHECK(rest->at("unknown").as<Opaque>().fields().at("table") == Value(shared));
    live.named_buffers()["b"].zero_();
    CHECK(rest->at("rest") == Value(shared));
  }
}

TEST_CASE("Autograd is told that a restored tensor has changed", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  const Run saved(1);
  io.save_checkpoint(saved.state.state_dict(), folder / "a.ckpt");
  for (const bool transactional : {true, false}) {
    Run run(2);
    const auto loss = run.net->forward(torch::randn({8, 64})).pow(2).mean();
    CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &run.state, .transactional = transactional}) == std::nullopt);
    CHECK_THROWS_WITH(loss.backward(), ContainsSubstring("modified by an inplace operation"));
  }
}

namespace {

std::vector<std::shared_ptr<CheckpointIO>> plugins_in_place() {
  return {std::make_shared<PythonCheckpointIO>(), std::make_shared<SafetensorsCheckpointIO>()};
}

// Of every dtype that has numbers in it, and holding 0 and 1.
std::vector<at::Tensor> tensors_of_all_dtypes() {
  using enum at::ScalarType;
  std::vector<at::Tensor> tensors;
  for (const auto dtype : {Bool,
                           Byte,
                           Char,
                           Short,
                           Int,
                           Long,
                           UInt16,
                           UInt32,
                           UInt64,
                           Half,
                           BFloat16,
                           Float,
                           Double,
                           Float8_e4m3fn,
                           Float8_e4m3fnuz,
                           Float8_e5m2,
                           Float8_e5m2fnuz,
                           Float8_e8m0fnu,
                           ComplexHalf,
                           ComplexFloat,
                           ComplexDouble}) {
    tensors.push_back(torch::tensor({0.0, 1.0, 1.0, 0.0}).to(dtype));
  }
  return tensors;
}

}  // namespace

TEST_CASE("Other dtypes are converted on the way where that is asked for", "[python][safetensors][in_place]") {
  const TempFolder folder;
  const at::Tensor large = torch::rand({3, 1500, 1000}), small = torch::arange(35).reshape({7, 5});
  for (const auto& io : plugins_in_place()) {
    Buffers saved(large, small);
    io->save_checkpoint({{"state_dict", state_dict(saved)}}, folder / "a.ckpt");
    for (const bool transactional : {true, false}) {
      const at::Tensor wide = torch::zeros({1500, 1000, 3, 2}, at::kHalf);
      const at::Tensor a = wide.select(3, 1).permute({2, 0, 1}), b = torch::zeros({7, 5}, at::kDouble);
      Buffers live(a, b);
      State state;
      state.add("state_dict", live);
      const LoadOptions options{.state = &state, .transactional = transactional, .convert_dtypes = true};
      CHECK(io->load_checkpoint(folder / "a.ckpt", options) == std::nullopt);
      CHECK(torch::equal(a, large.to(at::kHalf)));
      CHECK(torch::equal(b, small.to(at::kDouble)));
      CHECK(wide.select(3, 0).count_nonzero().item<std::int64_t>() == 0);
      CHECK(live.named_buffers()["a"].is_same(a));
    }
  }
}

TEST_CASE("Every pair of dtypes is converted as copy_ does, or refused where can_cast says no", "[python][in_place]") {
  PythonCheckpointIO io(std::make_shared<MemoryStorage>());
  for (const at::Tensor& source : tensors_of_all_dtypes()) {
    io.save_checkpoint({{"state_dict", Dict{{"a", source}, {"b", source}}}}, "a");
    for (const at::Tensor& like : tensors_of_all_dtypes()) {
      INFO(source.dtype() << " to " << like.dtype());
      Buffers live(torch::zeros_like(like), torch::zeros_like(like));
      State state;
      state.add("state_dict", live);
      const auto load = [&] { return io.load_checkpoint("a", {.state = &state, .convert_dtypes = true}); };
      if (at::can_cast(source.scalar_type(), like.scalar_type())) {
        CHECK(load() == std::nullopt);
        CHECK(Value(live.named_buffers()["a"]) == Value(torch::zeros_like(like).copy_(source)));
      } else {
        CHECK_THROWS_AS(load(), MismatchError);
        CHECK(Value(live.named_buffers()["a"]) == Value(torch::zeros_like(like)));
      }
    }
  }
}

TEST_CASE("Dtypes that would lose the kind of number are refused, all in one error",
          "[python][safetensors][in_place]") {
  const TempFolder folder;
  for (const auto& io : plugins_in_place()) {
    Buffers saved(torch::ones({4}, at::kComplexFloat), torch::ones({4}));
    io->save_checkpoint({{"state_dict", state_dict(saved)}}, folder / "a.ckpt");
    Buffers live(torch::zeros({4}), torch::zeros({4}, at::kLong));
    State state;
    state.add("state_dict", live);
    CHECK_THROWS_WITH(io->load_checkpoint(folder / "a.ckpt", {.state = &state, .convert_dtypes = true}),
                      ContainsSubstring("nothing was changed") &&
                          ContainsSubstring("state_dict.a: dtype float32 expected, found complex64 (not converted: "
                                            "from a complex dtype to a floating one)") &&
                          ContainsSubstring("state_dict.b: dtype int64 expected, found float32 (not converted: "
                                            "from a floating dtype to an integer one)"));
    CHECK(live.named_buffers()["a"].count_nonzero().item<std::int64_t>() == 0);
    // Without being asked for, nothing is converted.
    Buffers wider(torch::zeros({4}, at::kComplexDouble), torch::zeros({4}, at::kDouble));
    State wider_state;
    wider_state.add("state_dict", wider);
    CHECK_THROWS_AS(io->load_checkpoint(folder / "a.ckpt", {.state = &wider_state}), MismatchError);
  }
}

TEST_CASE("Quantized and sparse tensors are not converted", "[python][in_place]") {
  const at::Tensor plain = torch::ones({4});
  const at::Tensor quantized = torch::quantize_per_tensor(plain, 0.1, 0, at::kQInt8);
  const at::Tensor sparse = plain.to_sparse();
  PythonCheckpointIO io(std::make_shared<MemoryStorage>());
  io.save_checkpoint({{"state_dict", Dict{{"a", quantized}, {"b", sparse}}}}, "a");
  Buffers live(torch::zeros({4}), sparse.to(at::kDouble));
  State state;
  state.add("state_dict", live);
  CHECK_THROWS_WITH(io.load_checkpoint("a", {.state = &state, .convert_dtypes = true}),
                    ContainsSubstring("state_dict.a: dtype float32 expected, found qint8 (these are not converted)") &&
                        ContainsSubstring("state_dict.b: dtype float64 expected, found float32 (converted are"));
}

TEST_CASE("An optimizer's state is converted by the same rule", "[python][safetensors][in_place]") {
  const TempFolder folder;
  for (const auto& io : plugins_in_place()) {
    const Run saved(1);
    Checkpoint checkpoint = saved.state.state_dict();
    // As another writer may have it.
    checkpoint["optimizer"].at("state").at(0)["step"] = torch::tensor(7, at::kInt);
    io->save_checkpoint(checkpoint, folder / "a.ckpt");
    Run run(2);
    run.net->to(at::kDouble);
    CHECK_THROWS_AS(io->load_checkpoint(folder / "a.ckpt", {.state = &run.state}), MismatchError);
    CHECK(io->load_checkpoint(folder / "a.ckpt", {.state = &run.state, .convert_dtypes = true}) == std::nullopt);
    const Dict all = run.state.state_dict();
    for (const auto& [name, tensor] : checkpoint.at("state_dict").as<Dict>()) {
      const at::Tensor& live = all.at("state_dict").at(name).as<at::Tensor>();
      CHECK(torch::equal(live, tensor.as<at::Tensor>().to(live.scalar_type())));
    }
    for (const auto& [index, param] : checkpoint.at("optimizer").at("state").as<Dict>()) {
      const Value& live = all.at("optimizer").at("state").at(index);
      CHECK(live.at("exp_avg") == Value(param.at("exp_avg").as<at::Tensor>().to(at::kDouble)));
      CHECK(live.at("exp_avg_sq") == Value(param.at("exp_avg_sq").as<at::Tensor>().to(at::kDouble)));
    }
    CHECK(all.at("optimizer").at("state").at(0).at("step").as<at::Tensor>().item<int>() == 7);
    run.net->forward(torch::randn({8, 64}, at::kDouble)).pow(2).mean().backward();
    run.adam->step();  // with moments of the parameters' dtype
  }
}

TEST_CASE("Where two names have one tensor, the later one's value stays, converted", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  io.save_checkpoint({{"state_dict", Dict{{"a", torch::ones({9})}, {"b", torch::full({9}, 2.0, at::kHalf)}}}},
                     folder / "a.ckpt");
  const at::Tensor tied = torch::zeros({9});
  Buffers live(tied, tied);
  State state;
  state.add("state_dict", live);
  CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state, .convert_dtypes = true}) == std::nullopt);
  CHECK(torch::equal(tied, torch::full({9}, 2.0)));
}

TEST_CASE("What is converted is checked before anything changes", "[python][in_place]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  const at::Tensor a = torch::rand({300}), b = torch::rand({500});
  Buffers saved(a, b);
  io.save_checkpoint({{"state_dict", state_dict(saved)}}, folder / "a.ckpt");
  damage(folder / "a.ckpt", b);
  for (const bool transactional : {true, false}) {
    Buffers live(torch::zeros({300}), torch::zeros({500}, at::kDouble));
    State state;
    state.add("state_dict", live);
    const LoadOptions options{.state = &state, .transactional = transactional, .convert_dtypes = true};
    CHECK_THROWS_AS(io.load_checkpoint(folder / "a.ckpt", options), CorruptError);
    CHECK(live.named_buffers()["a"].count_nonzero().item<std::int64_t>() == 0);
    CHECK(live.named_buffers()["b"].count_nonzero().item<std::int64_t>() == 0);
  }
}

TEST_CASE("A checkpoint of a plugin that does not restore in place is converted by load_state_dict", "[torch]") {
  TorchCheckpointIO io(std::make_shared<MemoryStorage>());
  const at::Tensor a = torch::rand({300});
  Buffers saved(a, torch::arange(5));
  io.save_checkpoint({{"state_dict", state_dict(saved)}}, "a");
  Buffers live(torch::zeros({300}, at::kDouble), torch::zeros({5}));
  State state;
  state.add("state_dict", live);
  const auto checkpoint = io.load_checkpoint("a", {.state = &state, .convert_dtypes = true});
  REQUIRE(checkpoint);
  CHECK_THROWS_AS(state.load_state_dict(*checkpoint), MismatchError);
  state.load_state_dict(*checkpoint, /*strict=*/true, /*convert_dtypes=*/true);
  CHECK(torch::equal(live.named_buffers()["a"], a.to(at::kDouble)));
  CHECK(torch::equal(live.named_buffers()["b"], torch::arange(5).to(at::kFloat)));
}
