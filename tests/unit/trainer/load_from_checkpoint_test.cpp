// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/load_from_checkpoint.h"

#include <torch/torch.h>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/storage/memory_storage.h"
#include "support/catch.h"
#include "support/same_bits.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

struct PartImpl : torch::nn::Module {
  explicit PartImpl(std::int64_t width) {
    fc = register_module("fc", torch::nn::Linear(width, 2));
    norm = register_module("norm", torch::nn::BatchNorm1d(2));
  }
  torch::nn::Linear fc{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};
TORCH_MODULE(Part);

// Made from its hyper-parameters.
struct Net : TrainingModule {
  explicit Net(const Dict& hparams) : width(hparams.get("width", 3).as<std::int64_t>()) {
    encoder = register_module("encoder", Part(width));
    head = register_module("head", torch::nn::Linear(2, 1));
  }
  void on_load_checkpoint(Checkpoint& checkpoint) override {
    if (const Value* found = checkpoint.find("note")) note = found->as<std::string>();
  }
  std::int64_t width;
  std::string note;
  Part encoder{nullptr};
  torch::nn::Linear head{nullptr};
};

struct Plain : torch::nn::Module {
  Plain() { fc = register_module("fc", torch::nn::Linear(3, 2)); }
  torch::nn::Linear fc{nullptr};
};

bool same(const Dict& a, const Dict& b) { return a == b; }

struct Saved {
  TempFolder folder;
  Net net{Dict{{"width", 4}}};
  std::string path = folder / "run.ckpt";

  Saved() {
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& tensor : net.parameters()) tensor.uniform_();
    PythonCheckpointIO().save_checkpoint(checkpoint(), path);
  }
  Checkpoint checkpoint() const {
    return {{"epoch", 3},
            {"state_dict", state_dict(net)},
            {"optimizer_states", List{Dict{{"state", Dict{}}}}},
            {"hyper_parameters", Dict{{"width", 4}, {"lr", 0.1}}},
            {"note", "hello"}};
  }
};

TEST_CASE("load_from_checkpoint makes the module from its hyper-parameters and loads its weights", "[load_weights]") {
  const Saved saved;
  const auto net = load_from_checkpoint<Net>(saved.path);
  CHECK(net->width == 4);
  CHECK(same(state_dict(*net), state_dict(saved.net)));
  CHECK(net->note == "hello");
  CHECK(net->hyper_parameters() == Dict{{"width", 4}, {"lr", 0.1}});

  CHECK_THROWS_AS(load_from_checkpoint<Net>(saved.path, {}, {{"width", 5}}), MismatchError);  // as Python's keywords
  const auto changed = load_from_checkpoint<Net>(saved.path, {}, {{"lr", 0.2}, {"dropout", 0.5}});
  CHECK(changed->hyper_parameters() == Dict{{"width", 4}, {"lr", 0.2}, {"dropout", 0.5}});
  CHECK_THROWS_AS(load_from_checkpoint<Net>(saved.folder / "nowhere.ckpt"), NotFoundError);
}

TEST_CASE("Weights are taken from every format, and from files that are nothing but a state_dict", "[load_weights]") {
  const Saved saved;
  const std::string path = saved.folder / "other";
  Net net(Dict{{"width", 4}});
  const auto load = [&] {
    load_state_dict(net, state_dict(Net(Dict{{"width", 4}})));
    REQUIRE_FALSE(same(state_dict(net), state_dict(saved.net)));
    const IncompatibleKeys keys = load_weights(net, path);
    CHECK(keys.missing_keys.empty());
    CHECK(keys.unexpected_keys.empty());
    CHECK(same(state_dict(net), state_dict(saved.net)));
  };
  SECTION("Python's state_dict") {
    PythonCheckpointIO().save_checkpoint(state_dict(saved.net), path);
    load();
  }
  SECTION("TorchCheckpointIO's") {
    TorchCheckpointIO().save_checkpoint(saved.checkpoint(), path);
    load();
  }
  SECTION("LibTorch's own archive of a module") {
    torch::serialize::OutputArchive archive;
    saved.net.save(archive);
    archive.save_to(path);
    load();
  }
  SECTION("safetensors") {
    SafetensorsCheckpointIO().save_checkpoint(state_dict(saved.net), path);
    load();
  }
}

TEST_CASE("A part of the weights is taken by its prefix, under the name it has in the module", "[load_weights]") {
  const Saved saved;
  const auto& wanted = saved.net.encoder;
  SECTION("into the part itself") {
    Part part(4);
    load_weights(part, saved.path, {.prefix = "encoder.", .replacement = ""});
    CHECK(same(state_dict(part), state_dict(wanted)));
  }
  SECTION("into the part of the same name, and the others stay as they are") {
    Net net(Dict{{"width", 4}});
    const torch::Tensor before = net.head->weight.clone();
    load_weights(net, saved.path, {.prefix = "encoder."});
    CHECK(same(state_dict(net.encoder), state_dict(wanted)));
    CHECK(same_bits(net.head->weight, before));
  }
  SECTION("from a part into one of another name") {
    PythonCheckpointIO().save_checkpoint(state_dict(wanted), saved.folder / "part");
    Net net(Dict{{"width", 4}});
    load_weights(net, saved.folder / "part", {.replacement = "encoder."});
    CHECK(same(state_dict(net.encoder), state_dict(wanted)));
  }
  SECTION("by the prefix of a dictionary that is not called state_dict") {
    PythonCheckpointIO().save_checkpoint({{"model", state_dict(wanted)}, {"epoch", 3}}, saved.folder / "part");
    Part part(4);
    load_weights(part, saved.folder / "part", {.key = "model"});
    CHECK(same(state_dict(part), state_dict(wanted)));
    Part again(4);
    load_weights(again, saved.folder / "part", {.prefix = "model.", .replacement = ""});
    CHECK(same(state_dict(again), state_dict(wanted)));
  }
  SECTION("but not by one that nothing has") {
    Part part(4);
    CHECK_THROWS_WITH(load_weights(part, saved.path, {.prefix = "decoder.", .replacement = "", .strict = false}),
                      ContainsSubstring("no entry begins with 'decoder.'") && ContainsSubstring("encoder.fc.weight"));
  }
}

TEST_CASE("Weights that do not fit are all named, and the module stays as it was", "[load_weights]") {
  const Saved saved;
  Part part(5);
  part->register_parameter("extra", torch::zeros({1}));
  Dict state = state_dict(saved.net.encoder);
  state.erase("norm.bias");
  state["fc.more"] = torch::ones({2});
  const std::string path = saved.folder / "part";
  Dict prefixed;
  for (const auto& [name, value] : state) prefixed["encoder." + name.as<std::string>()] = value;
  prefixed["head.weight"] = torch::ones({1});
  PythonCheckpointIO().save_checkpoint({{"state_dict", prefixed}}, path);

  Dict before;
  for (const auto& [name, value] : state_dict(part)) before[name] = value.as<at::Tensor>().clone();
  LoadWeightsOptions options{.prefix = "encoder.", .replacement = ""};
  CHECK_THROWS_WITH(load_weights(part, path, options),
                    ContainsSubstring(path) && ContainsSubstring("missing (2)") && ContainsSubstring("extra") &&
                        ContainsSubstring("norm.bias") && ContainsSubstring("unexpected (1)") &&
                        ContainsSubstring("fc.more") && ContainsSubstring("mismatched (1)") &&
                        ContainsSubstring("fc.weight: shape [2, 5] expected, found [2, 4]") &&
                        !ContainsSubstring("head"));
  CHECK(same(state_dict(part), before));
  options.strict = false;
  CHECK_THROWS_AS(load_weights(part, path, options), MismatchError);  // another shape is never skipped
  CHECK(same(state_dict(part), before));

  Part fits(4);
  fits->register_parameter("extra", torch::zeros({1}));
  const IncompatibleKeys keys = load_weights(fits, path, options);
  CHECK(keys.missing_keys == std::vector<std::string>{"extra", "norm.bias"});
  CHECK(keys.unexpected_keys == std::vector<std::string>{"fc.more"});
  CHECK(same_bits(fits->fc->weight, saved.net.encoder->fc->weight));
}

TEST_CASE("A module says whether it is strict, unless the options do", "[load_weights]") {
  struct Lenient : Net {
    using Net::Net;
    bool strict_loading() const override { return false; }
  };
  const Saved saved;
  const std::string path = saved.folder / "head";
  PythonCheckpointIO().save_checkpoint({{"head.bias", torch::ones({1})}}, path);
  Net strict(Dict{{"width", 4}});
  CHECK_THROWS_AS(load_weights(strict, path), MismatchError);
  Lenient lenient(Dict{{"width", 4}});
  CHECK(load_weights(lenient, path).missing_keys.size() == 8);
  CHECK(lenient.head->bias.item<float>() == 1);
  CHECK_THROWS_AS(load_weights(lenient, path, {.strict = true}), MismatchError);
}

TEST_CASE("Weights come through a plugin of the caller's, and as its options say", "[load_weights]") {
  const auto io = std::make_shared<PythonCheckpointIO>(std::make_shared<MemoryStorage>());
  Plain plain;
  Dict state = state_dict(plain);
  io->save_checkpoint({{"state_dict", state}}, "a/b");
  const auto loaded = load_from_checkpoint<Plain>("a/b", {.map_location = "cpu", .checkpoint_io = io});
  CHECK(same(state_dict(*loaded), state));
  CHECK_THROWS_AS(load_weights(plain, "a/b", {.map_location = "meta", .checkpoint_io = io}), MismatchError);

  class InPlace : public PythonCheckpointIO {
   public:
    std::optional<Checkpoint> load_checkpoint(const std::string&, const LoadOptions&) override { return std::nullopt; }
  };
  CHECK_THROWS_AS(load_weights(plain, "a/b", {.checkpoint_io = std::make_shared<InPlace>()}), UnsupportedError);
  torch::nn::Linear holder(3, 2);
  load_weights(holder, "a/b", {.prefix = "fc.", .replacement = "", .checkpoint_io = io});
  CHECK(same_bits(holder->weight, plain.fc->weight));
}

}  // namespace
}  // namespace ckptio::test
