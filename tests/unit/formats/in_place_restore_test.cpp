// SPDX-License-Identifier: Apache-2.0
// load_checkpoint(path, {.state = &state}) of PythonCheckpointIO.
#include <torch/torch.h>

#include <filesystem>
#include <fstream>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/opaque.h"
#include "ckptio/state.h"
#include "ckptio/storage/local_storage.h"
#include "ckptio/storage/memory_storage.h"
#include "support/catch.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;
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
  for (const std::uintmax_t at : {size / 2, size / 4}) {
    std::fstream file(folder / "bit.ckpt", std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
  }
  CHECK_THROWS_AS(io.load_checkpoint(folder / "bit.ckpt", {.state = &run.state}), CorruptError);
  CHECK(run.copy() == before);

  io.save_checkpoint({{"state_dict", Dict{}}}, folder / "part.ckpt");
  CHECK_THROWS_WITH(io.load_checkpoint(folder / "part.ckpt", {.state = &run.state}),
                    ContainsSubstring("optimizer") && ContainsSubstring("state_dict.0.weight"));
  CHECK(run.copy() == before);
  CHECK_THROWS_AS(io.load_checkpoint(folder / "shape.ckpt", {.state = &run.state, .map_location = "cpu"}), TypeError);
}

namespace {

struct Buffers : torch::nn::Module {
  Buffers(at::Tensor a, at::Tensor b) {
    register_buffer("a", std::move(a));
    register_buffer("b", std::move(b));
  }
};

}  // namespace

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
  struct Keeper {
    Dict kept;
    Dict state_dict() const { return kept; }
    void load_state_dict(const Dict& state) { kept = state; }
  };
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
