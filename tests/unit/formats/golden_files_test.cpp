// SPDX-License-Identifier: Apache-2.0
// A file of each version of TorchCheckpointIO's format, written when that was the newest: they are read for ever.
#include <torch/torch.h>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/storage/local_storage.h"
#include "formats/checkpoint_file.h"
#include "formats/object_to_value.h"
#include "formats/opaque_context.h"
#include "formats/storage_reader.h"
#include "golden_checkpoints.h"
#include "support/catch.h"
#include "support/temp_folder.h"

using namespace ckptio;
using ckptio::test::golden_1;
using ckptio::test::golden_2;

namespace {

const std::string kVersion1 = CKPTIO_GOLDEN_DIR "/torch_version_1.ckpt";
const std::string kVersion2 = CKPTIO_GOLDEN_DIR "/torch_version_2.ckpt";

std::int64_t version_of(const std::string& path) {
  torch::serialize::InputArchive archive;
  archive.load_from(path);
  c10::IValue version;
  archive.read("ckptio_format_version", version);
  return version.toInt();
}

// Without torch::load, as the command line reads it.
Checkpoint read_by_codec(const std::string& path) {
  using namespace ckptio::detail;
  const LocalStorage storage;
  const auto file = open_checkpoint_file(storage, path);
  Archive archive = Archive::open(source_of(*file, path));
  CHECK(archive.is_checkpoint());
  IoEngine engine;
  std::vector<c10::Storage> storages = StorageReader(archive, *file, engine, true).read_all({});
  const auto context = make_opaque_context(path, archive.take_graph(), std::move(storages));
  return opened_to_value(context, *context->graph.root).as<Dict>();
}

void require_same(const Checkpoint& found, const Checkpoint& expected) {
  CHECK(found == expected);
  CHECK(to_string(found) == to_string(expected));  // types and order too
}

const void* data_of(const Value& value) { return value.as<at::Tensor>().storage().data(); }

}  // namespace

TEST_CASE("A file of version 1 of TorchCheckpointIO's format holds what was saved", "[torch]") {
  CHECK(version_of(kVersion1) == 1);
  const Checkpoint loaded = *TorchCheckpointIO().load_checkpoint(kVersion1, {.weights_only = true});
  require_same(loaded, golden_1());
  const Value& tensors = loaded.at("state_dict");
  for (const char* name : {"transposed", "words"}) CHECK(data_of(tensors.at("base")) == data_of(tensors.at(name)));
  CHECK(data_of(tensors.at("octets")) == data_of(tensors.at("floats")));
  CHECK(tensors.at("transposed").as<at::Tensor>().strides() == at::IntArrayRef{1, 4});
  CHECK(tensors.at("conj").as<at::Tensor>().is_conj());
  CHECK(tensors.at("grad").as<at::Tensor>().requires_grad());
}

TEST_CASE("A file of version 2 of TorchCheckpointIO's format holds what was saved", "[torch]") {
  CHECK(version_of(kVersion2) == 2);
  const Checkpoint loaded = *TorchCheckpointIO().load_checkpoint(kVersion2, {.weights_only = true});
  require_same(loaded, golden_2());
  const Dict& state_dict = loaded.at("state_dict").as<Dict>();
  CHECK(state_dict.type() == DictType::ordered_dict);
  require_same(state_dict.attributes(), golden_2().at("state_dict").as<Dict>().attributes());
  CHECK(loaded.at("lr_schedulers").at(0).at("milestones").as<Dict>().type() == DictType::counter);
  CHECK(loaded.at("size").as<Tuple>().is_size());
  CHECK(loaded.at("sets").at(1).as<Set>().is_frozen());
  const auto& storage = loaded.at("storages").at(0).as<TypedStorage>().storage;
  CHECK(data_of(state_dict.at("fc.weight")) == storage.data());
  CHECK(data_of(state_dict.at("fc.bias")) == storage.data());
}

TEST_CASE("Files of every version are read without torch::load, too", "[torch]") {
  Checkpoint expected = golden_1();
  expected["state_dict"].mutable_as<Dict>()["undefined"] = nullptr;  // as Python has it
  require_same(read_by_codec(kVersion1), expected);
  require_same(read_by_codec(kVersion2), golden_2());
}

TEST_CASE("A checkpoint is written in the oldest version that knows all that is in it", "[torch]") {
  const test::TempFolder folder;
  TorchCheckpointIO io;
  io.save_checkpoint(golden_1(), folder / "1.ckpt");
  CHECK(version_of(folder / "1.ckpt") == 1);
  io.save_checkpoint(golden_2(), folder / "2.ckpt");
  CHECK(version_of(folder / "2.ckpt") == 2);
}
