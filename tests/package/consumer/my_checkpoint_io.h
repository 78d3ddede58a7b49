// SPDX-License-Identifier: Apache-2.0
// A checkpoint plugin of one's own: the checkpoint as one file, pickled by LibTorch.
#pragma once

#include <ckptio/checkpoint_io.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

class MyCheckpointIO : public ckptio::CheckpointIO {
 public:
  void save_checkpoint(const ckptio::Checkpoint& checkpoint, const std::string& path,
                       const std::optional<ckptio::Dict>& storage_options = std::nullopt) override {
    if (storage_options) throw ckptio::TypeError("MyCheckpointIO has no storage_options");
    const std::vector<char> bytes = torch::pickle_save(ckptio::Value(checkpoint).to_ivalue());
    const std::string temporary = path + ".tmp";  // beside the target: what `path` held stays until this is whole
    std::ofstream file(temporary, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    std::error_code error;
    if (file) std::filesystem::rename(temporary, path, error);
    if (!file || error) {
      std::filesystem::remove(temporary, error);
      throw ckptio::IoError("save " + path + ": cannot write it");
    }
  }

  std::optional<ckptio::Checkpoint> load_checkpoint(const std::string& path,
                                                    const ckptio::LoadOptions& options = {}) override {
    if (!options.map_location.is_none()) throw ckptio::UnsupportedError("MyCheckpointIO loads to the CPU only");
    std::ifstream file(path, std::ios::binary);
    if (!file) throw ckptio::NotFoundError("Checkpoint file not found: " + path);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    try {
      return ckptio::Value::from_ivalue(torch::pickle_load(bytes)).as<ckptio::Dict>();
    } catch (const c10::Error& error) {
      throw ckptio::CorruptError("load " + path + ": " + error.what_without_backtrace());
    }
  }

  void remove_checkpoint(const std::string& path) override { std::filesystem::remove_all(path); }
};
