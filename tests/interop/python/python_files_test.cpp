// SPDX-License-Identifier: Apache-2.0
// Files between Python's torch.save and torch.load and PythonCheckpointIO, with the real PyTorch.
#include <torch/torch.h>

#include <filesystem>
#include <fstream>

#include "ckptio/ckptio.h"
#include "support/catch.h"
#include "support/python.h"
#include "support/random_seed.h"
#include "support/temp_folder.h"

using namespace ckptio;

namespace {

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".pt") files.push_back(entry.path());
  }
  return files;
}

// What expected() of python_twin.py holds.
Checkpoint made_here() {
  const auto base = torch::arange(6, torch::kFloat);
  Dict state_dict{{"weight", base.view({2, 3})}, {"row", base.slice(0, 3)}};
  state_dict.set_type(DictType::ordered_dict);
  Dict metadata{{"", Dict{{"version", 1}}}};
  metadata.set_type(DictType::ordered_dict);
  state_dict.attributes()["_metadata"] = metadata;
  Dict counter{{"a", 2}};
  counter.set_type(DictType::counter);
  const auto words = base.view(torch::kInt).slice(0, 1, 3);
  return {{"epoch", 3},
          {"loss", 0.25},
          {"none", nullptr},
          {"yes", true},
          {"name", "\u00e9"},
          {"state_dict", state_dict},
          {"both", List{base, words}},
          {"big", BigInt("1180591620717411303424")},
          {"bytes", Bytes("\0\xff", 2)},
          {"octets", ByteArray("ab")},
          {"tuple", Tuple{1, Tuple{2.5, std::complex<double>(1, 2)}}},
          {"size", Tuple::make_size({2, 3})},
          {"set", Set{1, "x"}},
          {"counter", counter},
          {"types", List{torch::kBFloat16, c10::Device("cuda:1"), c10::kSparseCsr, c10::kPerChannelAffine}},
          {"keys", Dict{{1, 2}, {Tuple{1, "a"}, 3}}},
          {"sparse", torch::eye(3).to_sparse()},
          {"storage", TypedStorage{base.storage(), std::nullopt}},
          {"u16", torch::tensor({1, 65535}, torch::kInt).to(torch::kUInt16)}};
}

}  // namespace

TEST_CASE("What Python saved, C++ loads and saves, and Python loads the same again", "[interop][python]") {
  if (!test::has_python()) return;
  const test::TempFolder folder;
  const std::string seed = std::to_string(test::random_seed() % 1000000);
  test::run_python(CKPTIO_PYTHON_TWIN, {"write", folder.path(), seed});
  PythonCheckpointIO io;
  const auto files = files_in(folder.path());
  CHECK(files.size() > 100);
  for (const auto& file : files) {
    INFO(file);
    auto out = file;
    out.replace_extension(".out");
    Value value;
    REQUIRE_NOTHROW(value = io.load_value(file));
    CHECK_NOTHROW(value = io.load_value(file, {.mmap = true}));
    REQUIRE_NOTHROW(io.save_value(value, out));
    CHECK(io.load_value(out) == value);
  }
  test::run_python(CKPTIO_PYTHON_TWIN, {"check", folder.path(), seed});
}

TEST_CASE("weights_only is refused for what Python refuses it for, and allowed for the rest", "[interop][python]") {
  if (!test::has_python()) return;
  const test::TempFolder folder;
  test::run_python(CKPTIO_PYTHON_TWIN, {"write", folder.path(), "1"});
  PythonCheckpointIO io;
  // Plain values for us, though Python's list of allowed names lacks them.
  const std::vector<std::string> plain_here{"frozenset", "empty_bytes", "huge", "own_tuple", "tensor_keys"};
  for (const auto& file : files_in(folder.path())) {
    INFO(file);
    const bool is_opaque = file.parent_path().filename() == "opaque";
    const bool is_plain_here =
        std::find(plain_here.begin(), plain_here.end(), file.stem().string()) != plain_here.end();
    if (is_opaque && !is_plain_here) {
      CHECK_THROWS_AS(io.load_value(file, {.weights_only = true}), UnsafeError);
    } else {
      CHECK_NOTHROW(io.load_value(file, {.weights_only = true}));
    }
  }
}

TEST_CASE("A checkpoint made in C++ is what Python loads", "[interop][python]") {
  if (!test::has_python()) return;
  const test::TempFolder folder;
  const std::string path = folder.path() + "/made.ckpt";
  PythonCheckpointIO().save_checkpoint(made_here(), path);
  test::run_python(CKPTIO_PYTHON_TWIN, {"expect", path});
}

TEST_CASE("Objects of Python's classes are made in C++", "[interop][python]") {
  if (!test::has_python()) return;
  const test::TempFolder folder;
  const std::string path = folder.path() + "/objects.ckpt";
  const auto hparams = Opaque::make_object("argparse.Namespace", {{"lr", 0.1}, {"dims", List{1, 2}}});
  const auto pure_path = Opaque::make_call("pathlib.PurePosixPath", {"/", "a", "b"});
  PythonCheckpointIO().save_checkpoint({{"hyper_parameters", hparams}, {"path", pure_path}}, path);
  test::run_python(CKPTIO_PYTHON_TWIN, {"expect_objects", path});
}

TEST_CASE("torch::pickle_load reads what holds nothing that LibTorch lacks", "[interop]") {
  const test::TempFolder folder;
  const std::string path = folder.path() + "/plain.ckpt";
  const Checkpoint checkpoint{{"epoch", 3},
                              {"large", std::int64_t{1} << 40},
                              {"loss", 0.25},
                              {"list", List{nullptr, true, "text", Tuple{1, 2}}},
                              {"complex", std::complex<double>(1, 2)},
                              {"weight", torch::arange(6, torch::kFloat).view({2, 3}).t()},
                              {"half", torch::ones({2}, torch::kHalf).set_requires_grad(true)}};
  PythonCheckpointIO().save_checkpoint(checkpoint, path);
  const Value loaded = Value::from_ivalue(torch::pickle_load(read_file(path)));
  CHECK(loaded == checkpoint);
}
