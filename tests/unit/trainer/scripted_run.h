// SPDX-License-Identifier: Apache-2.0
// Runs that take next to no time and log what a test says, to see which checkpoints they leave on the disk.
#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/storage/local_storage.h"
#include "ckptio/trainer/model_checkpoint.h"
#include "ckptio/trainer/trainer.h"

namespace ckptio::test {

using Names = std::vector<std::string>;

// All that is below the folder, with its path from there, sorted.
inline Names names_in(const std::string& folder) {
  namespace fs = std::filesystem;
  Names names;
  if (!fs::exists(folder)) return names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) names.push_back(entry.path().lexically_relative(folder).string());
  }
  std::ranges::sort(names);
  return names;
}

// One weight. Logs `m`: in training the script's number of the epoch, or in validation its number of the validation.
class ScriptedNet : public TrainingModule {
 public:
  explicit ScriptedNet(std::vector<double> script = {}) : script(std::move(script)) {
    weight = register_parameter("weight", torch::ones({1}));
  }

  torch::Tensor training_step(const torch::Tensor& batch, std::int64_t batch_idx) {
    if (on_step) on_step(batch_idx);
    if (!script.empty()) log("m", script.at(static_cast<std::size_t>(current_epoch()) % script.size()));
    return (weight * batch).sum();
  }

  void validation_step(const torch::Tensor&, std::int64_t) {
    log("val", val_script.empty() ? 0.0 : val_script.at(static_cast<std::size_t>(n_validations) % val_script.size()));
  }
  void on_validation_end() override { ++n_validations; }
  void test_step(const torch::Tensor&, std::int64_t) {}

  OptimizersAndSchedulers configure_optimizers() override {
    return {{std::make_shared<torch::optim::SGD>(parameters(), 0.1)}, {}};
  }

  torch::Tensor weight;
  std::vector<double> script{}, val_script{};
  std::int64_t n_validations = 0;
  std::function<void(std::int64_t)> on_step{};
};

inline std::vector<torch::Tensor> batches(std::size_t n) { return std::vector<torch::Tensor>(n, torch::ones({1})); }

// On the disk; counts, fails when told, and writes down what it did.
class DiskIO : public CheckpointIO {
 public:
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options) override {
    if (fails_at == n_saves++) throw IoError("cannot write '" + path + "': told to fail");
    inner_.save_checkpoint(checkpoint, path, storage_options);
    log.push_back("save " + std::filesystem::path(path).filename().string());
  }
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options) override {
    loaded = path;
    return inner_.load_checkpoint(path, options);
  }
  void remove_checkpoint(const std::string& path) override {
    ++n_removes;
    inner_.remove_checkpoint(path);
    log.push_back("remove " + std::filesystem::path(path).filename().string());
  }

  int n_saves = 0, n_removes = 0, fails_at = -1;
  std::string loaded;
  Names log;

 private:
  TorchCheckpointIO inner_{std::make_shared<LocalStorage>(LocalStorageOptions{.durable = false})};
};

struct Scene {
  TrainerOptions trainer{};
  std::vector<double> script{}, val_script{};
  std::size_t n_batches = 1;
  std::size_t n_val_batches = 0;
  std::optional<std::string> ckpt_path{};
  std::function<void(std::int64_t)> on_step{};
  std::shared_ptr<DiskIO> io = std::make_shared<DiskIO>();
  Names lines{};  // printed
};

// One fit, over `n_epochs` epochs in all.
inline void fit(Scene& scene, std::int64_t n_epochs, std::vector<std::shared_ptr<Callback>> callbacks) {
  TrainerOptions options = scene.trainer;
  options.max_epochs = n_epochs;
  options.enable_progress_bar = false;
  options.print = [&](std::string_view line) { scene.lines.emplace_back(line); };
  options.callbacks = std::move(callbacks);
  if (options.plugins.empty()) options.plugins = {scene.io};
  ScriptedNet net(scene.script);
  net.val_script = scene.val_script;
  net.on_step = scene.on_step;
  Trainer trainer(std::move(options));
  if (scene.n_val_batches == 0) {
    trainer.fit(net, batches(scene.n_batches), std::nullopt, scene.ckpt_path);
  } else {
    trainer.fit(net, batches(scene.n_batches), batches(scene.n_val_batches), scene.ckpt_path);
  }
}

inline void fit(Scene&& scene, std::int64_t n_epochs, std::vector<std::shared_ptr<Callback>> callbacks) {
  fit(scene, n_epochs, std::move(callbacks));
}

inline std::shared_ptr<ModelCheckpoint> model_checkpoint(ModelCheckpointOptions options) {
  return std::make_shared<ModelCheckpoint>(std::move(options));
}

inline bool has_line(const Scene& scene, const std::string& part) {
  return std::ranges::any_of(scene.lines, [&](const auto& line) { return line.find(part) != std::string::npos; });
}

inline Checkpoint load(const std::string& path) { return *TorchCheckpointIO().load_checkpoint(path); }

// The state of the only callback that has one.
inline Dict state_in(const std::string& path) {
  return load(path).at("callbacks").as<Dict>().begin()->second.as<Dict>();
}

}  // namespace ckptio::test
