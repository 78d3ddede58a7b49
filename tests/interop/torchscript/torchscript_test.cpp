// SPDX-License-Identifier: Apache-2.0
// Archives that Python's TorchScript writes: their data is read, none of their code runs.
#include <torch/torch.h>

#include <filesystem>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/storage/local_storage.h"
#include "codec/libtorch_file.h"
#include "support/catch.h"
#include "support/python.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;

namespace {

struct Archives {
  test::TempFolder folder;
  Archives() { test::run_python(CKPTIO_TORCHSCRIPT_DIR "/make_archives.py", {folder.path()}); }

  std::optional<Checkpoint> load(const std::string& name, const LoadOptions& options = {}) const {
    return TorchCheckpointIO().load_checkpoint(folder / name, options);
  }
  bool canary() const { return std::filesystem::exists(folder / "canary"); }
};

}  // namespace

TEST_CASE("TorchScript archives are read as data, and refused where reading would run code", "[interop]") {
  if (!test::has_python()) return;
  static const Archives archives;  // made once, not for each section

  SECTION("one whose class has __setstate__ is UnsafeError") {
    CHECK_THROWS_AS(archives.load("setstate.pt"), UnsafeError);
    CHECK_THROWS_WITH(archives.load("setstate.pt"), ContainsSubstring("WithSetState.__setstate__"));
  }
  SECTION("one whose default argument is computed is UnsafeError") {
    CHECK_THROWS_AS(archives.load("computed_default.pt"), UnsafeError);
    CHECK_THROWS_WITH(archives.load("computed_default.pt"), ContainsSubstring("default value of 'forward'"));
  }
  SECTION("one with a TorchBind object is UnsafeError") { CHECK_THROWS_AS(archives.load("torchbind.pt"), UnsafeError); }
  SECTION("one without is a Dict of its attributes") {
    const auto loaded = archives.load("plain.pt");
    CHECK(loaded->at("scale") == 0.5);
    CHECK(loaded->at("names") == List{"a", "b"});
    CHECK(loaded->at("table") == Dict{{"x", 1}});
    CHECK(loaded->at("fc").at("weight").as<at::Tensor>().sizes() == at::IntArrayRef{2, 3});
    CHECK(loaded->at("norm").at("num_batches_tracked") == Value(torch::tensor(0)));
    Checkpoint by_torch;
    torch::load(by_torch, archives.folder / "plain.pt");
    CHECK(*loaded == by_torch);
  }
  SECTION("weights_only refuses functions and lists them") {
    CHECK_THROWS_AS(archives.load("plain.pt", {.weights_only = true}), UnsafeError);
    CHECK_THROWS_WITH(archives.load("plain.pt", {.weights_only = true}),
                      ContainsSubstring("Plain.forward") && ContainsSubstring("BatchNorm1d._check_input_dim"));
  }
  SECTION("with weights_only = false, one whose class has __setstate__ is read as data") {
    const auto loaded = archives.load("nested_setstate.pt", {.weights_only = false});
    const auto& opaque = loaded->at("inner").as<Opaque>();
    CHECK_THAT(opaque.class_name(), ContainsSubstring("WithSetState"));
    CHECK(opaque.state().at(0) == Value(torch::ones(2)));
    CHECK_THROWS_AS(archives.load("nested_setstate.pt"), UnsafeError);
    CHECK_THROWS_AS(archives.load("nested_setstate.pt", {.weights_only = true}), UnsafeError);
  }
  SECTION("with weights_only = false, one whose default argument is computed is a Dict of its attributes") {
    CHECK(archives.load("computed_default.pt", {.weights_only = false})->contains("training"));
  }
  SECTION("map_location by a function moves the tensors of a foreign archive") {
    const auto loaded = archives.load("plain.pt", {.map_location = [](const std::string&) { return "meta"; }});
    CHECK(loaded->at("fc").at("weight").as<at::Tensor>().is_meta());
    CHECK(loaded->at("scale") == 0.5);
  }
  SECTION("attributes of every type are what they were, an object of a class a Dict, an enum an Opaque") {
    const auto loaded = archives.load("rich.pt");
    CHECK(loaded->at("ints") == List{1, 2});
    CHECK(loaded->at("flags") == List{true, false});
    CHECK(loaded->at("numbers") == List{0.5});
    CHECK(loaded->at("tensors") == List{torch::ones({1}), torch::zeros({2})});
    CHECK(loaded->at("by_number") == Dict{{1, torch::ones({1})}});
    CHECK(loaded->at("nothing").is_null());
    CHECK(loaded->at("device") == Value(c10::Device("cpu")));
    CHECK(loaded->at("complex") == std::complex<double>(1, 2));
    CHECK(loaded->at("large") == (std::int64_t{1} << 40));
    CHECK(loaded->at("tuple") == Tuple{1, "x", nullptr});
    CHECK(loaded->at("pair") == Dict{{"a", 3}, {"t", torch::ones({2})}});
    CHECK(loaded->at("mean") == Value(torch::arange(4)));
    const auto& color = loaded->at("color").as<Opaque>();
    CHECK_THAT(color.class_name(), ContainsSubstring("Color"));
    CHECK(color.args() == Tuple{2});
  }
  SECTION("sparse tensors of LibTorch's own form are what torch::load makes of them") {
    const auto loaded = archives.load("sparse.pt");
    CHECK(loaded->at("coo").as<at::Tensor>().to_dense().equal(torch::tensor({1.F, 0.F, 2.F})));
    CHECK(loaded->at("csr").as<at::Tensor>().to_dense().equal(torch::eye(3)));
    CHECK(loaded->at("csr").as<at::Tensor>().layout() == c10::kSparseCsr);
    Checkpoint by_torch;
    torch::load(by_torch, archives.folder / "sparse.pt");
    CHECK(*loaded == by_torch);
  }
  SECTION("a tensor on the meta device stays one") {
    const auto loaded = archives.load("meta.pt");
    CHECK(loaded->at("w").as<at::Tensor>().is_meta());
    CHECK(loaded->at("w").as<at::Tensor>().sizes() == at::IntArrayRef{2, 3});
  }
  SECTION("a file of Python's torch.save is read as PythonCheckpointIO does") {
    const auto loaded = archives.load("python.pt");
    CHECK(*loaded == *PythonCheckpointIO().load_checkpoint(archives.folder / "python.pt"));
  }
  CHECK_FALSE(archives.canary());
}

TEST_CASE("A TorchScript archive's tensors and modules have the names that Python gives them", "[interop]") {
  if (!test::has_python()) return;
  using namespace ckptio::detail;
  const Archives archives;
  const LocalStorage storage;
  const std::string bytes = test::read_file(storage, archives.folder / "rich.pt");
  const auto archive = Archive::open(memory_source("rich.pt", bytes.data(), bytes.size()));
  const auto named = name_modules(archive);
  std::string names;
  for (const auto& [name, tensor] : named.tensors) names += name + "\n";
  for (const std::string& name : named.modules) names += name + "\n";
  CHECK(names == test::read_file(storage, archives.folder / "rich.names"));
}

TEST_CASE("Python's torch.jit.load reads a checkpoint of ours", "[interop]") {
  if (!test::has_python()) return;
  const test::TempFolder folder;
  const auto base = torch::arange(6, torch::kFloat);
  TorchCheckpointIO().save_checkpoint({{"epoch", 3},
                                       {"none", nullptr},
                                       {"state_dict", Dict{{"w", base.view({2, 3})}, {"alias", base}}},
                                       {"optimizer_states", List{Dict{{"state", Dict{{0, "zero"}}}}}},
                                       {"betas", Tuple{0.9, 0.999}}},
                                      folder / "x.ckpt");
  test::run_python(CKPTIO_TORCHSCRIPT_DIR "/read_checkpoint.py", {folder / "x.ckpt"});
}
