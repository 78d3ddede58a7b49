// SPDX-License-Identifier: Apache-2.0
#include "plugins.h"

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/storage/local_storage.h"
#include "libtorch_plugins.h"

namespace ckptio::bench {

const std::vector<std::string>& plugin_names() {
  static const std::vector<std::string> names = {"torch", "python", "safetensors", "libtorch", "libtorch_pickle"};
  return names;
}

std::shared_ptr<CheckpointIO> make_plugin(const std::string& name, std::size_t n_threads, bool durable) {
  if (name == "libtorch") return std::make_shared<LibTorchArchiveIO>(durable);
  if (name == "libtorch_pickle") return std::make_shared<LibTorchPickleIO>(durable);
  const auto storage = std::make_shared<LocalStorage>(LocalStorageOptions{.durable = durable});
  if (name == "torch") return std::make_shared<TorchCheckpointIO>(storage);
  if (name == "python") {
    return std::make_shared<PythonCheckpointIO>(PythonCheckpointIOOptions{.storage = storage, .n_threads = n_threads});
  }
  return std::make_shared<SafetensorsCheckpointIO>(
      SafetensorsCheckpointIOOptions{.storage = storage, .n_threads = n_threads});
}

}  // namespace ckptio::bench
