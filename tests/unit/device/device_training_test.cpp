// SPDX-License-Identifier: Apache-2.0
// A Trainer whose model is on an accelerator, and saves in the background.
#include <chrono>
#include <future>
#include <map>
#include <thread>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "support/catch.h"
#include "support/stand_in/stand_in_device.h"
#include "unit/decorators/gated_io.h"
#include "unit/trainer/small_run.h"

namespace ckptio::test {
namespace {

class DeviceNet : public TrainingModule {
 public:
  DeviceNet() {
    w = register_parameter("w", torch::ones({2}).to(StandIn::device()));
    n_seen = register_buffer("n_seen", torch::zeros({2}).to(StandIn::device()));
  }

  torch::Tensor training_step(const Example& batch, std::int64_t) {
    n_seen.add_(1);  // at once, as batch norm's
    return (w * batch.data.to(w.device())).sum();
  }

  OptimizersAndSchedulers configure_optimizers() override {
    return {{std::make_shared<torch::optim::SGD>(parameters(), torch::optim::SGDOptions(0.1))}};
  }

  at::Tensor w, n_seen;
};

// Saves after each step, while the device takes its time to copy.
class SavesSlowly : public Callback {
 public:
  void on_train_batch_end(Trainer& trainer, TrainingModule& module, const at::Tensor&, std::int64_t) override {
    const std::string path = std::to_string(trainer.global_step());
    const auto& net = dynamic_cast<DeviceNet&>(module);
    expected[path] = {net.w.detach().cpu(), net.n_seen.cpu()};
    StandIn::get().copies.close();
    saves.push_back(trainer.async_save_checkpoint(path));
    CHECK_FALSE(saves.back().is_ready(SaveStage::Staged));
    opening = std::async(std::launch::async, [] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      StandIn::get().copies.open();
    });
  }
  void on_before_optimizer_step(Trainer&, TrainingModule&) override {
    for (const SaveFuture& save : saves) CHECK(save.is_ready(SaveStage::Staged));
  }
  bool saves_checkpoints() const override { return true; }

  std::map<std::string, std::pair<at::Tensor, at::Tensor>> expected;
  std::vector<SaveFuture> saves;
  std::future<void> opening;
};

TEST_CASE("An optimizer steps on a device when the device has copied what is being saved", "[device]") {
  const auto inner = std::make_shared<GatedIO>();
  const auto saver = std::make_shared<SavesSlowly>();
  Trainer trainer(quiet(1, std::make_shared<AsyncCheckpointIO>(inner), {saver}));
  const auto net = std::make_shared<DeviceNet>();
  trainer.fit(net, make_loader(4));
  for (const SaveFuture& save : saver->saves) CHECK_NOTHROW(save.wait());
  CHECK(saver->saves.size() == 6);
  for (const auto& [path, tensors] : saver->expected) {
    const Dict& saved = inner->saved.at(path).at("state_dict").as<Dict>();
    CHECK(saved.at("w").as<at::Tensor>().equal(tensors.first));
    CHECK(saved.at("n_seen").as<at::Tensor>().equal(tensors.second));
  }
}

}  // namespace
}  // namespace ckptio::test
