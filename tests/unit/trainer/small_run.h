// SPDX-License-Identifier: Apache-2.0
// A training run small enough to be repeated at each of its steps, with all that makes resuming hard: dropout, batch
// norm, momentum, two kinds of schedulers, a shuffled loader with random transforms, validation that draws.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/lr_scheduler.h"
#include "ckptio/state.h"
#include "ckptio/storage/memory_storage.h"
#include "ckptio/trainer/trainer.h"

namespace ckptio::test {

using Example = torch::data::Example<>;

// 22 points in the plane with their labels; each time one is read a little noise is drawn, unless it is to be 0.
class NoisyPoints : public torch::data::datasets::Dataset<NoisyPoints> {
 public:
  explicit NoisyPoints(double noise = 0.1) : noise_(noise) {}
  Example get(size_t index) override {
    const auto i = static_cast<double>(index);
    const auto point = torch::tensor({static_cast<float>(std::sin(i)), static_cast<float>(std::cos(1.7 * i))});
    const auto label = torch::tensor({std::sin(i) > 0.2 ? 1.0f : 0.0f});
    return {noise_ > 0 ? point + noise_ * torch::randn({2}) : point, label};
  }
  torch::optional<size_t> size() const override { return 22; }

 private:
  double noise_;
};

inline auto make_loader(size_t batch_size = 4, size_t workers = 0, double noise = 0.1) {
  return torch::data::make_data_loader<torch::data::samplers::RandomSampler>(
      NoisyPoints(noise).map(torch::data::transforms::Stack<>()),
      torch::data::DataLoaderOptions().batch_size(batch_size).workers(workers));
}

class SmallNet : public TrainingModule {
 public:
  SmallNet() {
    fc1 = register_module("fc1", torch::nn::Linear(2, 8));
    norm = register_module("norm", torch::nn::BatchNorm1d(8));
    fc2 = register_module("fc2", torch::nn::Linear(8, 1));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const auto hidden = torch::relu(norm->forward(fc1->forward(x)));
    return fc2->forward(torch::dropout(hidden, 0.3, is_training()));
  }

  torch::Tensor training_step(const Example& batch, std::int64_t batch_idx) {
    seen.push_back(batch.data.clone());
    if (on_step) on_step(batch_idx);
    const auto loss = torch::binary_cross_entropy_with_logits(forward(batch.data), batch.target);
    log("loss", loss, {.on_epoch = true});
    return loss;
  }

  void validation_step(const Example& batch, std::int64_t) {
    log("val_loss", torch::binary_cross_entropy_with_logits(forward(batch.data), batch.target));
  }

  OptimizersAndSchedulers configure_optimizers() override {
    auto sgd = std::make_shared<torch::optim::SGD>(parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
    auto every_step = std::make_shared<ExponentialLR>(*sgd, 0.97);
    auto every_epoch = std::make_shared<StepLR>(*sgd, 1, 0.5);
    return {{sgd}, {{every_step, {.interval = "step"}}, every_epoch}};
  }

  torch::nn::Linear fc1{nullptr}, fc2{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  std::vector<torch::Tensor> seen;                        // every training batch's data
  std::function<void(std::int64_t batch_idx)> on_step{};  // in the middle of each training step
};

inline std::shared_ptr<SmallNet> make_net() {
  torch::manual_seed(1);
  return std::make_shared<SmallNet>();
}

// Keeps checkpoints in memory, and counts.
class CountingIO : public CheckpointIO {
 public:
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options) override {
    ++n_saves;
    inner_.save_checkpoint(checkpoint, path, storage_options);
  }
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options) override {
    ++n_loads;
    had_state = options.state != nullptr;
    return inner_.load_checkpoint(path, options);
  }
  void remove_checkpoint(const std::string& path) override {
    ++n_removes;
    inner_.remove_checkpoint(path);
  }
  void teardown() override { ++n_teardowns; }

  int n_saves = 0, n_loads = 0, n_removes = 0, n_teardowns = 0;
  bool had_state = false;  // at the last load

 private:
  TorchCheckpointIO inner_{std::make_shared<MemoryStorage>()};
};

// Restores in place; gives back what no live object takes only if asked to.
class InPlaceIO : public CountingIO {
 public:
  explicit InPlaceIO(bool returns_rest = false) : returns_rest_(returns_rest) {}
  bool requires_state_on_load() const override { return true; }
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options) override {
    const auto checkpoint = CountingIO::load_checkpoint(path, options);
    names = options.state->keys();
    Dict rest = options.state->load_state_dict(*checkpoint);
    if (returns_rest_) return rest;
    return std::nullopt;
  }

  std::vector<std::string> names;  // of the State at the last load

 private:
  bool returns_rest_;
};

// Does what it is told after each training step, each time.
class AfterStep : public Callback {
 public:
  explicit AfterStep(std::function<void(Trainer&)> action) : action_(std::move(action)) {}
  void on_train_batch_end(Trainer& trainer, TrainingModule&, const at::Tensor&, std::int64_t) override {
    action_(trainer);
  }
  bool saves_checkpoints() const override { return true; }

 private:
  std::function<void(Trainer&)> action_;
};

// Options without noise on the terminal.
inline TrainerOptions quiet(std::int64_t max_epochs, std::shared_ptr<CheckpointIO> plugin,
                            std::vector<std::shared_ptr<Callback>> callbacks = {}) {
  TrainerOptions options{.max_epochs = max_epochs, .enable_progress_bar = false, .print = [](std::string_view) {}};
  options.callbacks = std::move(callbacks);
  if (plugin) options.plugins = {plugin};
  return options;
}

}  // namespace ckptio::test
