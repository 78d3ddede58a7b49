// SPDX-License-Identifier: Apache-2.0
// What programs do that have LibTorch alone, to be measured beside ours: they know tensors under "state_dict" only,
// write in place, and check nothing.
#pragma once

#include "ckptio/checkpoint_io.h"

namespace ckptio::bench {

class LibTorchIO : public CheckpointIO {
 public:
  // Durable: files are flushed to the disk.
  explicit LibTorchIO(bool durable) : durable_(durable) {}

  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options) override;
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options) override;
  void remove_checkpoint(const std::string& path) override;

 private:
  virtual void save(const Dict& tensors, const std::string& path) = 0;
  virtual Dict load(const std::string& path) = 0;

  const bool durable_;
};

// torch::save and torch::load, as they treat a module.
class LibTorchArchiveIO : public LibTorchIO {
 public:
  using LibTorchIO::LibTorchIO;

 private:
  void save(const Dict& tensors, const std::string& path) override;
  Dict load(const std::string& path) override;
};

// torch::pickle_save and torch::pickle_load.
class LibTorchPickleIO : public LibTorchIO {
 public:
  using LibTorchIO::LibTorchIO;

 private:
  void save(const Dict& tensors, const std::string& path) override;
  Dict load(const std::string& path) override;
};

}  // namespace ckptio::bench
