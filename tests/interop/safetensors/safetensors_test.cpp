// SPDX-License-Identifier: Apache-2.0
// Files of the real safetensors library are read bit for bit, and it reads ours. twin.py is the other side.
#include <torch/torch.h>

#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/state.h"
#include "ckptio/storage/local_storage.h"
#include "support/catch.h"
#include "support/python.h"
#include "support/same_bits.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using namespace ckptio::test;

namespace {

// As pattern() in twin.py.
at::Tensor pattern(std::int64_t n_bytes, c10::ScalarType type, at::IntArrayRef shape) {
  const auto octets = (torch::arange(n_bytes) * 37 + 11).remainder(type == torch::kBool ? 2 : 256).to(torch::kByte);
  return octets.view(type).reshape(shape);
}

// As all_dtypes() in twin.py.
Checkpoint all_dtypes() {
  const std::vector<std::pair<std::string, c10::ScalarType>> types = {{"bool", torch::kBool},
                                                                      {"uint8", torch::kByte},
                                                                      {"int8", torch::kChar},
                                                                      {"int16", torch::kShort},
                                                                      {"uint16", torch::kUInt16},
                                                                      {"int32", torch::kInt},
                                                                      {"uint32", torch::kUInt32},
                                                                      {"int64", torch::kLong},
                                                                      {"uint64", torch::kUInt64},
                                                                      {"float16", torch::kHalf},
                                                                      {"bfloat16", torch::kBFloat16},
                                                                      {"float32", torch::kFloat},
                                                                      {"float64", torch::kDouble},
                                                                      {"complex64", torch::kComplexFloat},
                                                                      {"float8_e4m3fn", torch::kFloat8_e4m3fn},
                                                                      {"float8_e5m2", torch::kFloat8_e5m2},
                                                                      {"float8_e8m0fnu", torch::kFloat8_e8m0fnu},
                                                                      {"float8_e4m3fnuz", torch::kFloat8_e4m3fnuz},
                                                                      {"float8_e5m2fnuz", torch::kFloat8_e5m2fnuz},
                                                                      {"float4_e2m1fn_x2", torch::kFloat4_e2m1fn_x2}};
  Checkpoint tensors;
  for (const auto& [name, type] : types) {
    const auto size = static_cast<std::int64_t>(c10::elementSize(type));
    tensors[name + ".matrix"] = pattern(64, type, {4, 16 / size});
    tensors[name + ".empty"] = pattern(0, type, {0, 8});
    if (type != torch::kFloat4_e2m1fn_x2) tensors[name + ".scalar"] = pattern(size, type, {});
  }
  return tensors;
}

struct Twin {
  TempFolder folder;
  Twin() { run("write"); }
  void run(const std::string& command) const { run_python(CKPTIO_SAFETENSORS_TWIN, {command, folder.path()}); }
  std::string bytes(const std::string& name) const { return read_file(LocalStorage(), folder / name); }
};

}  // namespace

TEST_CASE("The safetensors library and ckptio read each other's files and write the same bytes",
          "[interop][safetensors]") {
  if (!has_python()) return;
  const Twin twin;
  SafetensorsCheckpointIO io;

  const Checkpoint found = io.load_checkpoint(twin.folder / "dtypes.safetensors").value();
  const Checkpoint expected = all_dtypes();
  CHECK(found.size() == expected.size());
  for (const auto& [name, value] : expected) {
    INFO(to_string(name));
    const auto octets = [](const at::Tensor& t) { return t.element_size() == 1 ? t.view(torch::kByte) : t; };
    const at::Tensor &a = value.as<at::Tensor>(), &b = found.at(name).as<at::Tensor>();
    CHECK(a.scalar_type() == b.scalar_type());
    CHECK(same_bits(octets(a), octets(b)));
  }

  for (const std::string name : {"dtypes", "names", "empty"}) {
    INFO(name);
    io.save_checkpoint(io.load_checkpoint(twin.folder / (name + ".safetensors")).value(), twin.folder / "copy");
    CHECK(twin.bytes("copy") == twin.bytes(name + ".safetensors"));
  }
  SafetensorsCheckpointIO with_format({.metadata = {{"format", "pt"}}});
  CHECK(with_format.load_metadata(twin.folder / "metadata.safetensors") ==
        std::map<std::string, std::string>{{"format", "pt"}});
  with_format.save_checkpoint(io.load_checkpoint(twin.folder / "metadata.safetensors").value(), twin.folder / "copy");
  CHECK(twin.bytes("copy") == twin.bytes("metadata.safetensors"));

  const Checkpoint tied = io.load_checkpoint(twin.folder / "tied.safetensors").value();
  CHECK(tied.size() == 4);
  CHECK(tied.at("head.weight").as<at::Tensor>().is_alias_of(tied.at("embed.weight").as<at::Tensor>()));
  io.save_checkpoint(tied, twin.folder / "tied_ours.safetensors");
  CHECK(twin.bytes("tied_ours.safetensors") == twin.bytes("tied.safetensors"));

  io.save_checkpoint(expected, twin.folder / "ours.safetensors");
  with_format.save_checkpoint({{"epoch", 3},
                               {"state_dict", Dict{{"fc.weight", pattern(24, torch::kFloat, {2, 3})}}},
                               {"optimizer_states", List{Dict{{"state", Dict{{0, Dict{{"exp_avg", torch::rand({2})}}}}},
                                                              {"betas", Tuple{0.9, 0.999}}}}}},
                              twin.folder / "nested.safetensors");
  twin.run("check");
}
