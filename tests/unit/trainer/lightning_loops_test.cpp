// SPDX-License-Identifier: Apache-2.0
// Where Lightning's counters say that a run is: those that Lightning 2.6.6 saves in its hooks, written down from its
// checkpoints of a run of 4 batches an epoch; and ours, which are the same.
#include "trainer/lightning_loops.h"

#include <array>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "small_run.h"
#include "support/catch.h"
#include "support/same_bits.h"

namespace ckptio::test {
namespace {

using detail::EpochStage;
using Four = std::array<std::int64_t, 4>;  // ready, started, processed, completed

Dict four(const Four& counts) {
  return {{"ready", counts[0]}, {"completed", counts[3]}, {"started", counts[1]}, {"processed", counts[2]}};
}

Dict same(std::int64_t n) { return {{"ready", n}, {"completed", n}, {"started", n}}; }

struct Counters {
  const char* hook;
  std::int64_t global_step;
  Four epochs, batches;
  bool is_last_batch;
  std::int64_t n_val_total, n_val;
  // what they tell
  std::int64_t epoch;
  EpochStage stage;
  std::int64_t batches_done;
};

Dict loops_of(const Counters& counters) {
  const auto progress = [](Dict total, Dict current) { return Dict{{"total", total}, {"current", current}}; };
  Dict batches = progress(four(counters.batches), four(counters.batches));
  batches["is_last_batch"] = counters.is_last_batch;
  const auto val = [](std::int64_t n) { return four({n, n, n, n}); };
  Dict val_batches = progress(val(counters.n_val_total), val(counters.n_val));
  val_batches["is_last_batch"] = counters.n_val > 0;
  const Dict steps = progress(same(counters.global_step), same(counters.batches[2]));
  return {{"fit_loop", Dict{{"state_dict", Dict{}},
                            {"epoch_loop.state_dict", Dict{{"_batches_that_stepped", counters.global_step}}},
                            {"epoch_loop.batch_progress", batches},
                            {"epoch_loop.scheduler_progress", progress(same(1), same(1))},
                            {"epoch_loop.automatic_optimization.optim_progress",
                             Dict{{"optimizer", Dict{{"step", steps}, {"zero_grad", steps}}}}},
                            {"epoch_loop.val_loop.batch_progress", val_batches},
                            {"epoch_progress", progress(four(counters.epochs), four(counters.epochs))}}}};
}

TEST_CASE("Lightning's counters tell where the run was saved, in every hook", "[trainer]") {
  const auto counters = GENERATE(values<Counters>({
      {"on_train_start", 0, {0, 0, 0, 0}, {0, 0, 0, 0}, false, 0, 0, 0, EpochStage::kNotBegun, 0},
      {"on_train_epoch_start, the first", 0, {1, 0, 0, 0}, {0, 0, 0, 0}, false, 0, 0, 0, EpochStage::kNotBegun, 0},
      {"on_train_batch_start, the first", 0, {1, 1, 0, 0}, {1, 0, 0, 0}, false, 0, 0, 0, EpochStage::kTraining, 0},
      {"on_train_batch_end", 1, {1, 1, 0, 0}, {1, 1, 1, 0}, false, 0, 0, 0, EpochStage::kTraining, 1},
      {"on_train_batch_start", 3, {1, 1, 0, 0}, {4, 3, 3, 3}, true, 0, 0, 0, EpochStage::kTraining, 3},
      {"on_train_batch_end, the last", 4, {1, 1, 0, 0}, {4, 4, 4, 3}, true, 0, 0, 0, EpochStage::kTraining, 4},
      {"on_validation_start", 8, {2, 2, 1, 1}, {4, 4, 4, 4}, true, 0, 0, 1, EpochStage::kTraining, 4},
      {"on_validation_end", 4, {1, 1, 0, 0}, {4, 4, 4, 4}, true, 2, 2, 0, EpochStage::kValidated, 4},
      {"on_train_epoch_end", 4, {1, 1, 1, 0}, {4, 4, 4, 4}, true, 2, 2, 0, EpochStage::kEnded, 4},
      {"on_train_epoch_start", 4, {2, 1, 1, 1}, {4, 4, 4, 4}, true, 2, 2, 1, EpochStage::kNotBegun, 0},
      {"on_train_batch_end after a validation",
       5,
       {2, 2, 1, 1},
       {1, 1, 1, 0},
       false,
       0,
       2,
       1,
       EpochStage::kTraining,
       1},
      {"on_train_batch_end, the last, after it",
       8,
       {2, 2, 1, 1},
       {4, 4, 4, 3},
       true,
       0,
       2,
       1,
       EpochStage::kTraining,
       4},
      {"after fit", 12, {3, 3, 3, 3}, {4, 4, 4, 4}, true, 2, 2, 3, EpochStage::kNotBegun, 0},
      {"after a fit that max_steps ended", 6, {2, 2, 2, 2}, {2, 2, 2, 2}, false, 0, 0, 2, EpochStage::kTraining, 2},
  }));
  INFO(counters.hook);
  const detail::LoadedLoops loaded = detail::load_loops(loops_of(counters));
  CHECK(loaded.progress.epoch == counters.epoch);
  CHECK(loaded.progress.stage == counters.stage);
  CHECK(loaded.progress.batches_done == counters.batches_done);
  CHECK(loaded.progress.global_step == counters.global_step);
  CHECK(loaded.progress.lacks_metrics);
  CHECK_FALSE(loaded.metrics);
  const bool last_done = counters.is_last_batch && counters.batches[0] == counters.batches[2];
  CHECK(loaded.progress.all_batches_done == last_done);
}

TEST_CASE("Counters that no run has are an error that says where", "[trainer]") {
  Dict loops = loops_of({"", 4, {1, 1, 1, 0}, {4, 4, 4, 4}, true, 2, 2, 0, EpochStage::kEnded, 4});
  SECTION("a negative one") {
    loops.at("fit_loop").at("epoch_loop.batch_progress").at("current")["ready"] = -1;
    CHECK_THROWS_AS(detail::load_loops(loops), ValueError);
    CHECK_THROWS_WITH(detail::load_loops(loops), ContainsSubstring("['ready']: a count expected, found -1"));
  }
  SECTION("no number") {
    loops.at("fit_loop").at("epoch_progress").at("current")["processed"] = "two";
    CHECK_THROWS_AS(detail::load_loops(loops), TypeError);
  }
  SECTION("none") {
    loops.at("fit_loop").mutable_as<Dict>().erase("epoch_progress");
    CHECK_THROWS_AS(detail::load_loops(loops), KeyError);
  }
}

// Deterministic, so that a resume needs no generators; its rate depends on the validation.
class PlainNet : public TrainingModule {
 public:
  PlainNet() { fc_ = register_module("fc", torch::nn::Linear(2, 1)); }
  torch::Tensor training_step(const torch::Tensor& batch, std::int64_t) { return loss_of(batch); }
  void validation_step(const torch::Tensor& batch, std::int64_t) { log("val_loss", loss_of(batch)); }
  OptimizersAndSchedulers configure_optimizers() override {
    auto sgd = std::make_shared<torch::optim::SGD>(parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
    auto every_epoch = std::make_shared<StepLR>(*sgd, 2, 0.5);
    auto plateau = std::make_shared<ReduceLROnPlateau>(
        *sgd, ReduceLROnPlateauOptions{.factor = 0.5, .patience = 0, .threshold = 0.5});
    return {{sgd}, {every_epoch, {plateau, {.monitor = "val_loss"}}}};
  }

 private:
  torch::Tensor loss_of(const torch::Tensor& batch) { return (fc_->forward(batch) - 1).pow(2).mean(); }
  torch::nn::Linear fc_{nullptr};
};

class SaveInHooks : public Callback {
 public:
  explicit SaveInHooks(std::vector<std::pair<std::string, Checkpoint>>& saved) : saved_(saved) {}
  void on_train_start(Trainer& t, TrainingModule&) override { save(t, "train_start"); }
  void on_train_batch_end(Trainer& t, TrainingModule&, const at::Tensor&, std::int64_t) override {
    save(t, "batch_end");
  }
  void on_validation_start(Trainer& t, TrainingModule&) override { save(t, "validation_start"); }
  void on_validation_end(Trainer& t, TrainingModule&) override { save(t, "validation_end"); }
  void on_train_end(Trainer& t, TrainingModule&) override { save(t, "train_end"); }

 private:
  // A copy, by way of a file in memory, without what Lightning would not have.
  void save(Trainer& trainer, const std::string& hook) {
    TorchCheckpointIO io(std::make_shared<MemoryStorage>());
    io.save_checkpoint(trainer.dump_checkpoint(), "x");
    Checkpoint checkpoint = *io.load_checkpoint("x");
    checkpoint.at("loops").at("fit_loop").mutable_as<Dict>().erase("ckptio");
    checkpoint.erase("rng_state");
    checkpoint.erase("ckptio_version");
    saved_.emplace_back(hook, std::move(checkpoint));
  }
  std::vector<std::pair<std::string, Checkpoint>>& saved_;
};

TEST_CASE("A checkpoint with Lightning's keys alone resumes where it was saved, and steps the schedulers that are due",
          "[trainer][resume]") {
  torch::manual_seed(3);
  std::vector<torch::Tensor> batches;
  for (int i = 0; i < 3; ++i) batches.push_back(torch::randn({4, 2}));
  const auto io = std::make_shared<CountingIO>();
  const auto train = [&](std::vector<std::shared_ptr<Callback>> callbacks, const std::optional<std::string>& path) {
    torch::manual_seed(path ? 4 : 5);
    PlainNet net;
    Trainer trainer(quiet(3, io, std::move(callbacks)));
    trainer.fit(net, batches, batches, path);
    io->save_checkpoint(trainer.dump_checkpoint(), "end", std::nullopt);
    return *io->load_checkpoint("end", {});
  };
  std::vector<std::pair<std::string, Checkpoint>> saved;
  const Checkpoint unbroken = train({std::make_shared<SaveInHooks>(saved)}, std::nullopt);
  REQUIRE(unbroken.at("lr_schedulers").at(1).at("num_bad_epochs") == Value(0));
  REQUIRE(unbroken.at("lr_schedulers").at(1).at("_last_lr").at(0).as<double>() < 0.05);  // both have acted

  const auto check = [&](const Checkpoint& checkpoint) {
    io->save_checkpoint(checkpoint, "resumed from", std::nullopt);
    const Checkpoint resumed = train({}, "resumed from");
    for (const char* key : {"epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"}) {
      CHECK(first_difference(resumed.at(key), unbroken.at(key)) == "");
    }
  };
  REQUIRE(saved.size() == 2 + 3 * 5);
  for (auto& [hook, checkpoint] : saved) {
    INFO("saved in " << hook << " after step " << checkpoint.at("global_step"));
    check(checkpoint);
    if (hook != "validation_end") continue;
    INFO("as on_train_epoch_end has it");  // where Lightning's scheduler with a metric has not stepped yet
    Value& epochs = checkpoint.at("loops").at("fit_loop").at("epoch_progress").at("current");
    epochs["processed"] = epochs.at("processed").as<std::int64_t>() + 1;
    check(checkpoint);
  }
}

TEST_CASE("The optimizer's state has what Python's OneCycleLR keeps in its groups", "[trainer]") {
  class Net : public PlainNet {
   public:
    OptimizersAndSchedulers configure_optimizers() override {
      auto sgd = std::make_shared<torch::optim::SGD>(parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
      auto cycle = std::make_shared<OneCycleLR>(*sgd, OneCycleLROptions{.max_lr = 0.2, .total_steps = 10});
      return {{sgd}, {{cycle, {.interval = "step"}}}};
    }
  };
  Net net;
  Trainer trainer(quiet(1, nullptr));
  const std::vector<torch::Tensor> batches{torch::randn({4, 2})};
  trainer.fit(net, batches);
  const Checkpoint checkpoint = trainer.dump_checkpoint();
  const Value& group = checkpoint.at("optimizer_states").at(0).at("param_groups").at(0);
  CHECK(group.at("max_lr") == Value(0.2));
  CHECK(group.at("initial_lr") == Value(0.2 / 25));
  for (const char* key : {"min_lr", "max_momentum", "base_momentum"}) CHECK(group.contains(key));
}

}  // namespace
}  // namespace ckptio::test
