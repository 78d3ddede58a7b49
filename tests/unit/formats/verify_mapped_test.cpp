// SPDX-License-Identifier: Apache-2.0
// LoadOptions::verify_mapped and verify(): mapped tensors that are checked when they are used.
#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/opaque.h"
#include "ckptio/rng_state.h"
#include "ckptio/state.h"
#include "ckptio/storage/memory_storage.h"
#include "ckptio/verify.h"
#include "support/catch.h"
#include "support/damage.h"
#include "support/keeper.h"
#include "support/temp_folder.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;
using ckptio::test::damage;
using ckptio::test::Keeper;
using ckptio::test::TempFolder;

namespace {

const LoadOptions kOnUse{.mmap = true, .verify_mapped = VerifyMapped::on_use};

struct Buffers : torch::nn::Module {
  Buffers(at::Tensor a, at::Tensor b) {
    register_buffer("a", std::move(a));
    register_buffer("b", std::move(b));
  }
};

// A file with two tensors, the second of which is damaged.
struct DamagedFile {
  DamagedFile() {
    io.save_checkpoint({{"a", a}, {"b", b}}, path);
    damage(path, b);
  }
  Checkpoint load(const LoadOptions& options = kOnUse) { return io.load_checkpoint(path, options).value(); }

  TempFolder folder;
  std::string path = folder / "x.ckpt";
  PythonCheckpointIO io;
  at::Tensor a = torch::rand({100, 70}), b = torch::rand({300, 50});
};

const at::Tensor& tensor(const Checkpoint& checkpoint, const char* name) {
  return checkpoint.at(name).as<at::Tensor>();
}

std::vector<std::shared_ptr<CheckpointIO>> all_plugins() {
  return {std::make_shared<PythonCheckpointIO>(), std::make_shared<SafetensorsCheckpointIO>(),
          std::make_shared<TorchCheckpointIO>(),
          std::make_shared<AsyncCheckpointIO>(std::make_shared<PythonCheckpointIO>())};
}

}  // namespace

TEST_CASE("Mapped and checked on use, a damaged tensor is loaded and refused by verify", "[verify]") {
  DamagedFile file;
  CHECK_THROWS_AS(file.load({.mmap = true}), CorruptError);  // at once is the default
  const Checkpoint loaded = file.load();
  verify(tensor(loaded, "a"));
  for (int i = 0; i < 2; ++i) {
    CHECK_THROWS_AS(verify(tensor(loaded, "b")), CorruptError);
    CHECK_THROWS_WITH(verify(tensor(loaded, "b").select(0, 3)),  // its record is damaged elsewhere
                      ContainsSubstring(file.path) && ContainsSubstring("'archive/data/1'") &&
                          ContainsSubstring("found in its 60000 bytes") && ContainsSubstring("expected"));
  }
  CHECK_THROWS_AS(verify(loaded), CorruptError);
  CHECK_THROWS_AS(verify(Value(Tuple{1, List{loaded.at("b")}})), CorruptError);
  verify(Value(List{loaded.at("a"), nullptr, at::Tensor()}));
  verify(tensor(file.load({.mmap = true, .verify = false, .verify_mapped = VerifyMapped::on_use}), "b"));
}

TEST_CASE("Damage that was not looked for gets into no module, and leaves it as it was", "[verify]") {
  DamagedFile file;
  const Checkpoint loaded = file.load();
  Buffers live(torch::zeros({100, 70}), torch::zeros({300, 50}));
  CHECK_THROWS_AS(load_state_dict(live, loaded), CorruptError);
  State state(live);
  CHECK_THROWS_AS(state.load_state_dict(loaded), CorruptError);
  CHECK(live.named_buffers()["a"].count_nonzero().item<std::int64_t>() == 0);
  CHECK(live.named_buffers()["b"].count_nonzero().item<std::int64_t>() == 0);
  load_state_dict(live, {{"a", loaded.at("a")}}, /*strict=*/false);
  CHECK(torch::equal(live.named_buffers()["a"], file.a));
}

TEST_CASE("Damage that was not looked for gets into no optimizer, generator or object of the user's", "[verify]") {
  const TempFolder folder;
  PythonCheckpointIO io;
  torch::nn::Linear net(20, 30);
  torch::optim::Adam adam(net->parameters(), 0.01);
  net->forward(torch::randn({8, 20})).pow(2).mean().backward();
  adam.step();
  const RngState rng;
  Checkpoint checkpoint = State{}.add("adam", adam).state_dict();
  checkpoint["rng"] = rng.state_dict();
  checkpoint["mine"] = Dict{{"x", torch::rand({90})}};
  const auto fails = [&](const at::Tensor& damaged, const std::function<void(const Checkpoint&)>& load) {
    io.save_checkpoint(checkpoint, folder / "x.ckpt");
    load(io.load_checkpoint(folder / "x.ckpt", kOnUse).value());
    damage(folder / "x.ckpt", damaged);
    const Checkpoint loaded = io.load_checkpoint(folder / "x.ckpt", kOnUse).value();
    CHECK_THROWS_AS(load(loaded), CorruptError);
  };
  const Value& first = checkpoint.at("adam").at("state").at(0);
  const auto load_adam = [&](const Checkpoint& c) { load_state_dict(adam, c.at("adam").as<Dict>()); };
  fails(first.at("exp_avg").as<at::Tensor>().clone(), load_adam);
  checkpoint["adam"].at("state").at(0)["step"] = torch::tensor(123456789);  // occurs once in the file
  fails(first.at("step").as<at::Tensor>().clone(), load_adam);
  fails(checkpoint.at("rng").at("cpu").as<at::Tensor>().clone(),
        [](const Checkpoint& c) { RngState().load_state_dict(c.at("rng").as<Dict>()); });
  Keeper keeper;
  fails(checkpoint.at("mine").at("x").as<at::Tensor>(),
        [&keeper](const Checkpoint& c) { State{}.add("mine", keeper).load_state_dict(c); });
}

TEST_CASE("Damage that was not looked for gets into no new file", "[verify]") {
  DamagedFile file;
  for (const auto& io : all_plugins()) {
    const Checkpoint loaded = file.load();
    const std::string path = file.folder / "copy";
    CHECK_THROWS_AS((io->save_checkpoint(loaded, path), io->teardown()), CorruptError);
    CHECK_FALSE(std::filesystem::exists(path));
    io->save_checkpoint({{"a", loaded.at("a")}}, path);
    io->teardown();
    CHECK(tensor(*io->load_checkpoint(path), "a").equal(file.a));
    io->remove_checkpoint(path);
  }
}

TEST_CASE("Values over damage that was not looked for are not compared", "[verify]") {
  DamagedFile file;
  const Checkpoint loaded = file.load();
  CHECK(loaded.at("a") == Value(file.a));
  CHECK_THROWS_AS(loaded.at("b") == Value(file.b), CorruptError);
  CHECK_THROWS_AS(Value(file.b) == loaded.at("b"), CorruptError);
  CHECK(loaded.at("b") != Value(file.a));  // of another shape: nothing is read
}

TEST_CASE("What was found right is not looked at again", "[verify]") {
  DamagedFile file;
  const Checkpoint loaded = file.load();
  verify(tensor(loaded, "a"));
  damage(file.path, file.a);
  verify(tensor(loaded, "a"));
  CHECK_THROWS_AS(verify(tensor(file.load(), "a")), CorruptError);
}

TEST_CASE("Changes made in memory are no damage, and hide none", "[verify]") {
  DamagedFile file;
  const Checkpoint loaded = file.load();
  tensor(loaded, "a").zero_();
  tensor(loaded, "b").zero_();
  verify(tensor(loaded, "a"));
  CHECK_THROWS_AS(verify(tensor(loaded, "b")), CorruptError);
  CHECK(loaded.at("a") == Value(torch::zeros({100, 70})));
}

TEST_CASE("Many threads may verify at once", "[verify]") {
  DamagedFile file;
  const Checkpoint loaded = file.load();
  std::vector<int> n_errors(8);
  std::vector<std::thread> threads;
  for (int& errors : n_errors) {
    threads.emplace_back([&] {
      for (const char* name : {"a", "b", "a", "b"}) {
        try {
          verify(tensor(loaded, name));
        } catch (const CorruptError&) {
          ++errors;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(n_errors == std::vector<int>(8, 2));
}

TEST_CASE("A part of a file is mapped and checked on use as well", "[verify]") {
  DamagedFile file;
  LoadOptions options = kOnUse;
  options.filter = [](const std::string& name) { return name == "b"; };
  const Checkpoint loaded = file.load(options);
  CHECK_FALSE(loaded.contains("a"));
  CHECK_THROWS_AS(verify(loaded), CorruptError);
  options.verify_mapped = VerifyMapped::at_once;
  CHECK_THROWS_AS(file.load(options), CorruptError);
}

TEST_CASE("What is read to load it is checked at once", "[verify]") {
  DamagedFile file;
  LoadOptions options = kOnUse;
  options.map_location = [](const c10::Storage& storage, const std::string&) { return storage; };
  CHECK_THROWS_AS(file.load(options), CorruptError);
  const at::Tensor sparse = torch::sparse_coo_tensor(torch::arange(2'000).reshape({2, 1'000}), torch::rand({1'000}));
  file.io.save_checkpoint({{"a", sparse}}, file.path);
  CHECK(file.load().at("a") == Value(sparse));
  damage(file.path, sparse._indices());
  CHECK_THROWS_AS(file.load(), CorruptError);
}

TEST_CASE("Tensors within objects of unknown classes are checked on use", "[verify]") {
  DamagedFile file;
  file.io.save_checkpoint({{"mine", Opaque::make_object("my.Config", Dict{{"table", file.b}})}}, file.path);
  verify(file.load());
  damage(file.path, file.b);
  const Checkpoint loaded = file.load();
  CHECK_THROWS_AS(verify(loaded), CorruptError);
  CHECK_THROWS_AS(file.io.save_checkpoint(loaded, file.folder / "copy"), CorruptError);
  CHECK_THROWS_AS(AsyncCheckpointIO(std::make_shared<PythonCheckpointIO>()).save_checkpoint(loaded, file.folder / "c"),
                  CorruptError);
}

TEST_CASE("Where nothing can be mapped, all is checked at once", "[verify]") {
  const auto memory = std::make_shared<MemoryStorage>();
  PythonCheckpointIO io(memory);
  const at::Tensor x = torch::rand({1'000});
  io.save_checkpoint({{"x", x}}, "x");
  CHECK(io.load_checkpoint("x", kOnUse)->at("x") == Value(x));
  std::string bytes = test::read_file(*memory, "x");
  bytes[bytes.find(std::string(static_cast<const char*>(x.const_data_ptr()), x.nbytes()))] ^= 1;
  test::write_file(*memory, "x", bytes);
  CHECK_THROWS_AS(io.load_checkpoint("x", kOnUse), CorruptError);
}
