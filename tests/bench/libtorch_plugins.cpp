// SPDX-License-Identifier: Apache-2.0
#include "libtorch_plugins.h"

#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "raw_io.h"

namespace ckptio::bench {

void LibTorchIO::save_checkpoint(const Checkpoint& checkpoint, const std::string& path, const std::optional<Dict>&) {
  save(checkpoint.at("state_dict").as<Dict>(), path);
  if (durable_) flush(path);
}

std::optional<Checkpoint> LibTorchIO::load_checkpoint(const std::string& path, const LoadOptions&) {
  return Checkpoint{{"state_dict", load(path)}};
}

void LibTorchIO::remove_checkpoint(const std::string& path) { std::filesystem::remove(path); }

void LibTorchArchiveIO::save(const Dict& tensors, const std::string& path) {
  torch::serialize::OutputArchive archive;
  for (const auto& [name, tensor] : tensors) {
    archive.write(name.as<std::string>(), tensor.as<at::Tensor>(), /*is_buffer=*/true);
  }
  archive.save_to(path);
}

Dict LibTorchArchiveIO::load(const std::string& path) {
  torch::serialize::InputArchive archive;
  archive.load_from(path);
  Dict tensors;
  for (const std::string& name : archive.keys()) {
    at::Tensor tensor;
    archive.read(name, tensor, /*is_buffer=*/true);
    tensors[name] = tensor;
  }
  return tensors;
}

void LibTorchPickleIO::save(const Dict& tensors, const std::string& path) {
  c10::impl::GenericDict dict(c10::StringType::get(), c10::TensorType::get());
  for (const auto& [name, tensor] : tensors) dict.insert(name.as<std::string>(), tensor.as<at::Tensor>());
  const std::vector<char> bytes = torch::pickle_save(dict);
  std::ofstream file(path, std::ios::binary);
  file.exceptions(std::ios::failbit | std::ios::badbit);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

Dict LibTorchPickleIO::load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  file.exceptions(std::ios::failbit | std::ios::badbit);
  std::vector<char> bytes(std::filesystem::file_size(path));
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  Dict tensors;
  for (const auto& entry : torch::pickle_load(bytes).toGenericDict()) {
    tensors[entry.key().toStringRef()] = entry.value().toTensor();
  }
  return tensors;
}

}  // namespace ckptio::bench
