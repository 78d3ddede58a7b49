// SPDX-License-Identifier: Apache-2.0
// A run that stops anywhere and is resumed ends bit for bit as one that never stopped: weights, buffers, optimizer,
// schedulers, generators, metrics, and the batches it saw.
#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/formats/python_checkpoint_io.h"
#include "small_run.h"
#include "support/catch.h"
#include "support/same_bits.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

constexpr std::int64_t kEpochs = 2;
constexpr std::int64_t kStepsPerEpoch = 6;  // 22 points in batches of 4
constexpr std::int64_t kSteps = kEpochs * kStepsPerEpoch;

std::string step_path(std::int64_t step) { return "step=" + std::to_string(step); }

std::shared_ptr<Callback> save_each_step() {
  return std::make_shared<AfterStep>(
      [](Trainer& trainer) { trainer.save_checkpoint(step_path(trainer.global_step())); });
}

// A finished run: all that it left.
struct Finished {
  std::shared_ptr<SmallNet> net;
  Checkpoint checkpoint;
  std::map<std::string, double> metrics;
};

// Trains from scratch or from `ckpt_path`. A resumed run begins in a process where everything drew other numbers.
Finished train(TrainerOptions options, std::shared_ptr<SmallNet> net = nullptr,
               const std::optional<std::string>& ckpt_path = std::nullopt) {
  if (!net) net = make_net();
  torch::manual_seed(ckpt_path ? 12345 : 2);
  auto train_loader = make_loader();
  auto val_loader = make_loader(8);
  Trainer trainer(std::move(options));
  trainer.fit(net, train_loader, val_loader, ckpt_path);
  return {net, trainer.dump_checkpoint(), trainer.callback_metrics()};
}

// Another net than the run's, as a new process would have.
std::shared_ptr<SmallNet> other_net() {
  torch::manual_seed(77);
  return std::make_shared<SmallNet>();
}

void check_same(const Finished& resumed, const Finished& unbroken) {
  CHECK(first_difference(resumed.checkpoint, unbroken.checkpoint) == "");
  CHECK(resumed.metrics == unbroken.metrics);
  const auto& seen = resumed.net->seen;
  const auto& all = unbroken.net->seen;
  REQUIRE(seen.size() <= all.size());
  for (std::size_t i = 0; i < seen.size(); ++i) CHECK(same_bits(seen[i], all[all.size() - seen.size() + i]));
}

TEST_CASE("A run resumed after any step ends bit for bit as the unbroken one", "[trainer][resume]") {
  const auto io = std::make_shared<CountingIO>();
  const Finished unbroken = train(quiet(kEpochs, io, {save_each_step()}));
  REQUIRE(io->n_saves == kSteps);
  for (std::int64_t step = 1; step <= kSteps; ++step) {
    INFO("resumed after step " << step);
    const Finished resumed = train(quiet(kEpochs, io), other_net(), step_path(step));
    CHECK(std::ssize(resumed.net->seen) == kSteps - step);
    check_same(resumed, unbroken);
  }
}

TEST_CASE("A run resumed again and again ends as the unbroken one", "[trainer][resume]") {
  const auto io = std::make_shared<CountingIO>();
  const Finished unbroken = train(quiet(kEpochs, nullptr));
  const auto save_and_die = std::make_shared<AfterStep>([](Trainer& trainer) {
    trainer.save_checkpoint("end");
    throw std::runtime_error("killed");
  });
  CHECK_THROWS_WITH(train(quiet(kEpochs, io, {save_and_die})), "killed");
  for (std::int64_t step = 2; step <= kSteps; ++step) {
    CHECK_THROWS_WITH(train(quiet(kEpochs, io, {save_and_die}), other_net(), "end"), "killed");
  }
  check_same(train(quiet(kEpochs, io), other_net(), "end"), unbroken);
}

// Saves in every hook there is, and draws random numbers in some, as callbacks may.
class SaveEverywhere : public Callback {
 public:
  void on_train_start(Trainer& t, TrainingModule&) override { save(t, "train_start"); }
  void on_train_epoch_start(Trainer& t, TrainingModule&) override { save(t, "epoch_start"); }
  void on_train_batch_start(Trainer& t, TrainingModule&, std::int64_t) override { save(t, "batch_start"); }
  void on_train_batch_end(Trainer& t, TrainingModule&, const at::Tensor&, std::int64_t) override {
    save(t, "batch_end");
  }
  void on_validation_start(Trainer& t, TrainingModule&) override { save(t, "validation_start"); }
  void on_validation_batch_end(Trainer& t, TrainingModule&, std::int64_t) override { save(t, "validation_batch"); }
  void on_validation_end(Trainer& t, TrainingModule&) override { save(t, "validation_end"); }
  void on_train_epoch_end(Trainer& t, TrainingModule&) override { save(t, "epoch_end"); }
  void on_train_end(Trainer& t, TrainingModule&) override { save(t, "train_end"); }

  std::vector<std::string> paths;

 private:
  void save(Trainer& trainer, const std::string& hook) {
    paths.push_back(std::to_string(paths.size()) + " " + hook);
    trainer.save_checkpoint(paths.back());
  }
};

class DrawEverywhere : public Callback {
 public:
  void on_train_epoch_start(Trainer&, TrainingModule&) override { torch::rand({3}); }
  void on_train_batch_start(Trainer&, TrainingModule&, std::int64_t) override { torch::rand({1}); }
  void on_validation_start(Trainer&, TrainingModule&) override { torch::rand({2}); }
};

TEST_CASE("A checkpoint saved in any hook resumes bit for bit", "[trainer][resume]") {
  const auto io = std::make_shared<CountingIO>();
  const auto saver = std::make_shared<SaveEverywhere>();
  const auto drawer = std::make_shared<DrawEverywhere>();
  const Finished unbroken = train(quiet(kEpochs, io, {drawer, saver}));
  REQUIRE(saver->paths.size() > 2 * kSteps);
  for (const std::string& path : saver->paths) {
    INFO("saved as " << path);
    check_same(train(quiet(kEpochs, io, {drawer}), other_net(), path), unbroken);
  }
}

TEST_CASE("Accumulated gradients and validations within epochs resume bit for bit, from any hook",
          "[trainer][resume]") {
  const auto io = std::make_shared<CountingIO>();
  const auto saver = std::make_shared<SaveEverywhere>();
  const auto options = [&](std::vector<std::shared_ptr<Callback>> callbacks) {
    TrainerOptions result = quiet(kEpochs, io, std::move(callbacks));
    result.accumulate_grad_batches = 4;  // steps after batches 4 and 6 of 6
    result.gradient_clip_val = 0.05;
    result.val_check_interval = 3;
    return result;
  };
  const Finished unbroken = train(options({saver}));
  CHECK(unbroken.checkpoint.at("global_step").as<std::int64_t>() == kEpochs * 2);
  for (const std::string& path : saver->paths) {
    INFO("saved as " << path);
    check_same(train(options({}), other_net(), path), unbroken);
  }
}

class SaveOnException : public Callback {
 public:
  void on_exception(Trainer& trainer, TrainingModule&, const std::exception_ptr&) override {
    trainer.save_checkpoint("exception");
  }
};

TEST_CASE("A checkpoint saved when a step threw resumes with that step", "[trainer][resume]") {
  const Finished unbroken = train(quiet(kEpochs, nullptr));
  for (std::int64_t step = 0; step < kSteps; ++step) {
    INFO("step " << step << " threw");
    const auto io = std::make_shared<CountingIO>();
    const auto net = make_net();
    net->on_step = [net = net.get(), step](std::int64_t) {
      if (net->global_step() == step) throw std::runtime_error("out of memory");
    };
    CHECK_THROWS_WITH(train(quiet(kEpochs, io, {std::make_shared<SaveOnException>()}), net), "out of memory");
    check_same(train(quiet(kEpochs, io), other_net(), "exception"), unbroken);
  }
}

TEST_CASE("A resume within an accumulation starts from its gradients alone", "[trainer][resume]") {
  // Each batch gives a gradient to a weight of its own.
  struct Net : TrainingModule {
    Net() {
      for (const char* name : {"even", "odd"}) weights.push_back(register_parameter(name, torch::ones({1})));
    }
    torch::Tensor training_step(const torch::Tensor& batch, std::int64_t batch_idx) {
      return (weights[static_cast<std::size_t>(batch_idx) % 2] * batch).sum();
    }
    OptimizersAndSchedulers configure_optimizers() override {
      return std::make_shared<torch::optim::SGD>(parameters(), 0.5);
    }
    std::vector<torch::Tensor> weights;
  };
  const std::vector<torch::Tensor> batches(2, torch::ones({1}));
  const auto io = std::make_shared<CountingIO>();
  int n = 0;
  const auto save =
      std::make_shared<AfterStep>([&](Trainer& trainer) { trainer.save_checkpoint("batch=" + std::to_string(++n)); });
  TrainerOptions options = quiet(1, io, {save});
  options.accumulate_grad_batches = 2;
  Net net;
  Trainer(options).fit(net, batches);
  CHECK(net.weights[1].item<float>() == 0.75f);
  net.weights[1].mutable_grad() = torch::full({1}, 100.0f);
  Trainer(options).fit(net, batches, std::nullopt, "batch=1");
  CHECK(net.weights[0].item<float>() == 0.75f);
  CHECK(net.weights[1].item<float>() == 0.75f);
}

TEST_CASE("A run that max_steps or stop() ended goes on where it was", "[trainer][resume]") {
  const Finished unbroken = train(quiet(kEpochs, nullptr));
  for (std::int64_t step = 0; step <= kSteps; ++step) {
    INFO("ended after step " << step);
    const auto io = std::make_shared<CountingIO>();
    TrainerOptions options = quiet(kEpochs, io);
    options.max_steps = step;
    const Finished first = train(options);
    io->save_checkpoint(first.checkpoint, "end", std::nullopt);
    CHECK(std::ssize(first.net->seen) == step);
    check_same(train(quiet(kEpochs, io), other_net(), "end"), unbroken);

    if (step == 0) continue;
    const auto stopper = std::make_shared<AfterStep>([step](Trainer& trainer) {
      if (trainer.global_step() == step) trainer.stop();
    });
    io->save_checkpoint(train(quiet(kEpochs, io, {stopper})).checkpoint, "end", std::nullopt);
    check_same(train(quiet(kEpochs, io), other_net(), "end"), unbroken);
  }
}

TEST_CASE("A finished run goes on with more epochs", "[trainer][resume]") {
  const auto io = std::make_shared<CountingIO>();
  const Finished unbroken = train(quiet(3, nullptr));
  const Finished first = train(quiet(2, io));
  io->save_checkpoint(first.checkpoint, "end", std::nullopt);
  check_same(train(quiet(3, io), other_net(), "end"), unbroken);
  CHECK(train(quiet(2, io), other_net(), "end").net->seen.empty());
}

TEST_CASE("A run whose epochs are limited resumes bit for bit", "[trainer][resume]") {
  const auto io = std::make_shared<CountingIO>();
  const auto limited = [&](std::vector<std::shared_ptr<Callback>> callbacks) {
    TrainerOptions options = quiet(3, io, std::move(callbacks));
    options.limit_train_batches = 4;
    options.limit_val_batches = 1;
    options.check_val_every_n_epoch = 2;
    return options;
  };
  const Finished unbroken = train(limited({save_each_step()}));
  REQUIRE(unbroken.net->seen.size() == 12);
  for (std::int64_t step = 1; step <= 12; ++step) {
    INFO("resumed after step " << step);
    check_same(train(limited({}), other_net(), step_path(step)), unbroken);
  }
}

TEST_CASE("A plugin that restores in place resumes bit for bit", "[trainer][resume]") {
  const bool returns_rest = GENERATE(false, true);
  const auto io = std::make_shared<InPlaceIO>(returns_rest);
  const Finished unbroken = train(quiet(kEpochs, io, {save_each_step()}));
  for (const std::int64_t step : {1, 5, 6, 9}) {
    INFO("resumed after step " << step << ", rest returned: " << returns_rest);
    const Finished resumed = train(quiet(kEpochs, io), other_net(), step_path(step));
    check_same(resumed, unbroken);
    CHECK(io->names == std::vector<std::string>{"state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers",
                                                "rng_state"});
  }
}

TEST_CASE("PythonCheckpointIO restores a run in place, bit for bit", "[trainer][resume]") {
  const TempFolder folder;
  const bool in_background = GENERATE(false, true);
  std::shared_ptr<CheckpointIO> io =
      std::make_shared<PythonCheckpointIO>(PythonCheckpointIOOptions{.restore_in_place = true});
  if (in_background) io = std::make_shared<AsyncCheckpointIO>(io);
  const auto save = std::make_shared<AfterStep>(
      [&](Trainer& trainer) { trainer.save_checkpoint(folder / step_path(trainer.global_step())); });
  const Finished unbroken = train(quiet(kEpochs, io, {save}));
  for (const std::int64_t step : {1, 6, 9}) {
    INFO("resumed after step " << step << ", in the background: " << in_background);
    check_same(train(quiet(kEpochs, io), other_net(), folder / step_path(step)), unbroken);
  }
}

// Batches of a type of the user's own, in a vector: no DataLoader, no order to draw.
struct Pair {
  torch::Tensor first, second;
};

class PairNet : public TrainingModule {
 public:
  explicit PairNet(bool lbfgs = false) : lbfgs_(lbfgs) { fc_ = register_module("fc", torch::nn::Linear(3, 1)); }
  torch::Tensor training_step(const Pair& batch, std::int64_t) {
    ++n_calls;
    const auto input = lbfgs_ ? batch.first : torch::dropout(batch.first, 0.2, is_training());
    const auto loss = torch::mse_loss(fc_->forward(input), batch.second);
    log("loss", loss, {.on_step = false, .on_epoch = true});
    return loss;
  }
  OptimizersAndSchedulers configure_optimizers() override {
    if (lbfgs_) return std::make_unique<torch::optim::LBFGS>(parameters(), torch::optim::LBFGSOptions(0.1).max_iter(4));
    auto adam = std::make_shared<torch::optim::Adam>(parameters(), 0.05);
    auto plateau = std::make_shared<ReduceLROnPlateau>(*adam, ReduceLROnPlateauOptions{.patience = 0});
    return {{adam}, {{plateau, {.monitor = "loss"}}}};
  }
  std::int64_t n_calls = 0;

 private:
  torch::nn::Linear fc_{nullptr};
  bool lbfgs_;
};

TEST_CASE("A plain range of batches, Adam and ReduceLROnPlateau resume bit for bit; so does LBFGS",
          "[trainer][resume]") {
  const bool lbfgs = GENERATE(false, true);
  torch::manual_seed(3);
  std::vector<Pair> batches;
  for (int i = 0; i < 5; ++i) batches.push_back({torch::randn({4, 3}), torch::randn({4, 1})});
  const auto io = std::make_shared<CountingIO>();
  const auto run = [&](std::vector<std::shared_ptr<Callback>> callbacks, const std::optional<std::string>& path) {
    torch::manual_seed(path ? 4 : 5);
    PairNet net(lbfgs);
    Trainer trainer(quiet(3, io, std::move(callbacks)));
    trainer.fit(net, batches, std::nullopt, path);
    CHECK(trainer.n_train_batches() == 5);
    if (lbfgs && !path) CHECK(net.n_calls > 15);
    io->save_checkpoint(trainer.dump_checkpoint(), "end", std::nullopt);
    return *io->load_checkpoint("end", {});
  };
  const Checkpoint unbroken = run({save_each_step()}, std::nullopt);
  for (std::int64_t step = 1; step <= 15; ++step) {
    INFO("resumed after step " << step << (lbfgs ? ", LBFGS" : ", Adam"));
    CHECK(first_difference(run({}, step_path(step)), unbroken) == "");
  }
}

TEST_CASE("A step that threw in the midst of an accumulation is resumed with the gradients of its batches once",
          "[trainer][resume]") {
  struct Throws : SaveOnException {
    explicit Throws(int at) : at(at) {}
    void on_after_backward(Trainer&, TrainingModule&) override { count(); }
    void on_before_optimizer_step(Trainer&, TrainingModule&) override { count(); }
    void count() {
      if (n++ == at) throw std::runtime_error("out of memory");
    }
    int at, n = 0;
  };
  torch::manual_seed(3);
  std::vector<Pair> batches;
  for (int i = 0; i < 5; ++i) batches.push_back({torch::randn({4, 3}), torch::randn({4, 1})});
  const auto run = [&](std::shared_ptr<CheckpointIO> io, std::vector<std::shared_ptr<Callback>> callbacks,
                       const std::optional<std::string>& path) {
    TrainerOptions options = quiet(2, std::move(io), std::move(callbacks));
    options.accumulate_grad_batches = 2;
    options.gradient_clip_val = 0.1;
    torch::manual_seed(path ? 99 : 4);
    PairNet net;
    Trainer trainer(options);
    trainer.fit(net, batches, std::nullopt, path);
    return trainer.dump_checkpoint();
  };
  const auto counter = std::make_shared<Throws>(-1);
  const Checkpoint unbroken = run(nullptr, {counter}, std::nullopt);
  REQUIRE(counter->n == 2 * (5 + 3));
  for (int at = 0; at < counter->n; ++at) {
    INFO("threw in hook " << at);
    const auto io = std::make_shared<CountingIO>();
    CHECK_THROWS_WITH(run(io, {std::make_shared<Throws>(at)}, std::nullopt), "out of memory");
    CHECK(first_difference(run(io, {}, "exception"), unbroken) == "");
  }
}

TEST_CASE("With worker threads the order of batches is resumed", "[trainer][resume]") {
  const auto io = std::make_shared<CountingIO>();
  const auto run = [&](std::vector<std::shared_ptr<Callback>> callbacks, const std::optional<std::string>& path) {
    const auto net = make_net();
    torch::manual_seed(path ? 4 : 5);
    auto loader = make_loader(4, /*workers=*/2, /*noise=*/0);
    Trainer trainer(quiet(kEpochs, io, std::move(callbacks)));
    trainer.fit(net, loader, std::nullopt, path);
    return Finished{net, trainer.dump_checkpoint(), trainer.callback_metrics()};
  };
  const Finished unbroken = run({save_each_step()}, std::nullopt);
  for (std::int64_t step = 1; step <= kSteps; ++step) {
    INFO("resumed after step " << step);
    check_same(run({}, step_path(step)), unbroken);
  }
}

TEST_CASE("A loader that gives fewer batches than were done can't be resumed", "[trainer][resume]") {
  const auto io = std::make_shared<CountingIO>();
  train(quiet(1, io, {save_each_step()}));
  const auto net = other_net();
  auto loader = make_loader(22);
  Trainer trainer(quiet(1, io));
  CHECK_THROWS_AS(trainer.fit(net, loader, std::nullopt, step_path(3)), MismatchError);
}

}  // namespace
}  // namespace ckptio::test
