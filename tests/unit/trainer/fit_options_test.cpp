// SPDX-License-Identifier: Apache-2.0
// The options that shape a fit: how long it is, when it steps and validates, what ends it, where metrics go.
#include <signal.h>

#include <list>
#include <numeric>

#include "async/save_progress.h"
#include "small_run.h"
#include "support/catch.h"
#include "support/same_bits.h"

namespace ckptio::test {
namespace {

using Names = std::vector<std::string>;

// Writes down when what happened, as "<batches done in all>:<what>".
class Diary : public Callback {
 public:
  void on_train_batch_end(Trainer&, TrainingModule&, const at::Tensor&, std::int64_t) override { ++n_batches; }
  void on_before_optimizer_step(Trainer&, TrainingModule&) override { note("step"); }
  void on_validation_start(Trainer&, TrainingModule&) override { note("validation"); }
  void on_train_epoch_end(Trainer&, TrainingModule&) override { note("epoch"); }
  void on_sanity_check_start(Trainer&, TrainingModule&) override { note("sanity"); }
  void on_interrupt(Trainer&, TrainingModule&, int signal) override { note("signal " + std::to_string(signal)); }
  void on_train_end(Trainer&, TrainingModule&) override { note("end"); }

  std::int64_t n_batches = 0;
  Names notes;

 private:
  void note(const std::string& what) { notes.push_back(std::to_string(n_batches) + ":" + what); }
};

Names only(const Names& notes, const std::string& what) {
  Names found;
  for (const std::string& note : notes) {
    if (note.ends_with(":" + what)) found.push_back(note.substr(0, note.find(':')));
  }
  return found;
}

// Six batches an epoch, three for validation.
struct Fitted {
  std::shared_ptr<SmallNet> net = make_net();
  std::shared_ptr<Diary> diary = std::make_shared<Diary>();
  std::int64_t global_step = 0, current_epoch = 0;
  std::optional<int> interrupted;
  std::map<std::string, double> metrics;
};

Fitted fit(TrainerOptions options, std::function<void(SmallNet&)> prepare = {}) {
  Fitted fitted;
  options.callbacks.insert(options.callbacks.begin(), fitted.diary);
  torch::manual_seed(2);
  Trainer trainer(std::move(options));
  if (prepare) prepare(*fitted.net);
  trainer.fit(fitted.net, make_loader(), make_loader(8));
  fitted.global_step = trainer.global_step();
  fitted.current_epoch = trainer.current_epoch();
  fitted.interrupted = trainer.interrupted();
  fitted.metrics = trainer.callback_metrics();
  return fitted;
}

TrainerOptions with(const std::function<void(TrainerOptions&)>& change, std::int64_t max_epochs = 2) {
  TrainerOptions options = quiet(max_epochs, nullptr);
  change(options);
  return options;
}

TEST_CASE("Accumulating gradients, optimizers step after every so many batches and at the epoch's end", "[trainer]") {
  const Fitted fitted = fit(with([](auto& options) { options.accumulate_grad_batches = 4; }));
  CHECK(only(fitted.diary->notes, "step") == Names{"3", "5", "9", "11"});  // in the batch after so many
  CHECK(fitted.global_step == 4);
}

TEST_CASE("Accumulated batches step as one batch of their size", "[trainer]") {
  struct Linear : TrainingModule {
    Linear() { weight = register_parameter("weight", torch::zeros({2})); }
    torch::Tensor training_step(const torch::Tensor& batch, std::int64_t) {
      return batch.mv(weight).sub(1).square().mean();
    }
    OptimizersAndSchedulers configure_optimizers() override {
      return std::make_shared<torch::optim::SGD>(parameters(), 0.1);
    }
    torch::Tensor weight;
  };
  torch::manual_seed(5);
  const auto data = torch::rand({6, 2});
  const auto train = [&](std::int64_t n_accumulated) {
    TrainerOptions options = quiet(1, nullptr);
    options.accumulate_grad_batches = n_accumulated;
    std::vector<torch::Tensor> batches = data.chunk(n_accumulated);
    const auto net = std::make_shared<Linear>();
    Trainer(options).fit(net, batches);
    return net->weight.detach();
  };
  CHECK(torch::allclose(train(3), train(1)));
  CHECK_FALSE(torch::allclose(train(1), torch::zeros({2})));
}

TEST_CASE("The hooks of a batch come in Lightning's order", "[trainer]") {
  Names log;
  struct Net : SmallNet {
    explicit Net(Names& names) : log(names) {}
    torch::Tensor training_step(const torch::data::Example<>& batch, std::int64_t batch_idx) {
      log.push_back("training_step");
      return SmallNet::training_step(batch, batch_idx);
    }
    void on_train_batch_end(const torch::Tensor&, std::int64_t) override { log.push_back("module"); }
    Names& log;
  };
  struct Hooks : Callback {
    explicit Hooks(Names& names) : log(names) {}
    void on_train_batch_start(Trainer&, TrainingModule&, std::int64_t) override { log.push_back("start"); }
    void on_before_zero_grad(Trainer&, TrainingModule&) override { log.push_back("zero_grad"); }
    void on_before_backward(Trainer&, TrainingModule&, const at::Tensor&) override { log.push_back("backward"); }
    void on_after_backward(Trainer&, TrainingModule&) override { log.push_back("after_backward"); }
    void on_before_optimizer_step(Trainer&, TrainingModule&) override { log.push_back("optimizer_step"); }
    void on_train_batch_end(Trainer&, TrainingModule&, const at::Tensor&, std::int64_t) override {
      log.push_back("end");
    }
    Names& log;
  };
  Trainer trainer(with([&](auto& options) {
    options.accumulate_grad_batches = 2;
    options.limit_train_batches = 2;
    options.max_epochs = 1;
    options.callbacks = {std::make_shared<Hooks>(log)};
  }));
  trainer.fit(std::make_shared<Net>(log), make_loader());
  CHECK(log == Names{"start", "training_step", "zero_grad", "backward", "after_backward", "end", "module", "start",
                     "training_step", "backward", "after_backward", "optimizer_step", "end", "module"});
}

TEST_CASE("LBFGS and accumulation do not go together", "[trainer]") {
  struct Net : SmallNet {
    OptimizersAndSchedulers configure_optimizers() override {
      return std::make_shared<torch::optim::LBFGS>(parameters(), 0.1);
    }
  };
  Trainer trainer(with([](auto& options) { options.accumulate_grad_batches = 2; }));
  CHECK_THROWS_AS(trainer.fit(std::make_shared<Net>(), make_loader()), MisconfigurationError);
}

TEST_CASE("Gradients are clipped before the step", "[trainer]") {
  class Norms : public Callback {
   public:
    void on_train_batch_end(Trainer&, TrainingModule& module, const at::Tensor&, std::int64_t) override {
      double sum = 0;
      for (const auto& p : module.parameters()) {
        sum += p.grad().square().sum().item<double>();
        largest = std::max(largest, p.grad().abs().max().item<double>());
      }
      norms.push_back(std::sqrt(sum));
    }
    std::vector<double> norms;
    double largest = 0;
  };
  const auto norms = std::make_shared<Norms>();
  const auto run = [&](double limit, const std::string& algorithm) {
    fit(with([&](auto& options) {
      options.gradient_clip_val = limit;
      options.gradient_clip_algorithm = algorithm;
      options.callbacks = {norms};
    }));
  };
  SECTION("by norm") {
    run(0.01, "norm");
    for (const double norm : norms->norms) CHECK(norm == Approx(0.01).epsilon(1e-3));
  }
  SECTION("by value") {
    run(0.001, "value");
    CHECK(norms->largest == Approx(0.001));
  }
  SECTION("by nothing else") { CHECK_THROWS_AS(run(1, "nrom"), MisconfigurationError); }
}

TEST_CASE("Validation runs when it is asked to", "[trainer]") {
  const auto validations = [](const std::function<void(TrainerOptions&)>& change, std::int64_t epochs = 2) {
    return only(fit(with(change, epochs)).diary->notes, "validation");
  };
  CHECK(validations([](auto&) {}) == Names{"6", "12"});
  CHECK(validations([](auto& o) { o.check_val_every_n_epoch = 2; }, 4) == Names{"12", "24"});
  CHECK(validations([](auto& o) { o.val_check_interval = 2; }) == Names{"2", "4", "6", "8", "10", "12"});
  CHECK(validations([](auto& o) { o.val_check_interval = 4; }) == Names{"4", "10"});
  CHECK(validations([](auto& o) {
          o.val_check_interval = 4;
          o.check_val_every_n_epoch = 0;
        }) == Names{"4", "8", "12"});
  CHECK(validations([](auto& o) { o.limit_val_batches = 0; }).empty());
  CHECK_THROWS_AS(validations([](auto& o) { o.check_val_every_n_epoch = 0; }), MisconfigurationError);
  // LibTorch's loader does not tell how long it is.
  CHECK_THROWS_AS(validations([](auto& o) { o.val_check_interval = 0.5; }), MisconfigurationError);
}

TEST_CASE("Fractions are of the batches of a loader that tells how many it has", "[trainer]") {
  const auto run = [](const std::function<void(TrainerOptions&)>& change) {
    const auto diary = std::make_shared<Diary>();
    TrainerOptions options = with(change, 1);
    options.callbacks = {diary};
    std::vector<Example> batches(10, {torch::zeros({4, 2}), torch::zeros({4, 1})});
    Trainer(options).fit(make_net(), batches, batches);
    return diary;
  };
  CHECK(run([](auto& o) { o.limit_train_batches = 0.55; })->n_batches == 5);
  CHECK(only(run([](auto& o) { o.val_check_interval = 0.25; })->notes, "validation") ==
        Names{"2", "4", "6", "8", "10"});
  CHECK(only(run([](auto& o) { o.val_check_interval = 0.01; })->notes, "validation").size() == 10);  // at least one
  CHECK_THROWS_AS(run([](auto& o) { o.limit_train_batches = 0.05; }), MisconfigurationError);
  CHECK_THROWS_WITH(run([](auto& o) { o.val_check_interval = 11; }),
                    Catch::Contains("must be less than or equal to the number of the training batches (10)"));
}

TEST_CASE("A limit is a number of batches or a part of them, as its type says", "[trainer]") {
  const auto batches = [](BatchLimit limit) {
    return fit(with([&](auto& options) { options.limit_train_batches = limit; }, 1)).diary->n_batches;
  };
  CHECK(batches(1) == 1);
  CHECK(batches(1.0) == 6);
  CHECK(batches(100) == 6);
  CHECK(batches(0) == 0);
  CHECK_THROWS_AS(batches(1.5), MisconfigurationError);
  CHECK_THROWS_AS(batches(-1), MisconfigurationError);
}

TEST_CASE("Without training batches a fit ends, and says so", "[trainer]") {
  const std::string message = "`Trainer.fit` stopped: No training batches.";
  Names lines;
  const auto run = [&](const std::function<void(TrainerOptions&)>& change, std::vector<Example> batches) {
    const auto diary = std::make_shared<Diary>();
    TrainerOptions options = with(change);
    options.callbacks = {diary};
    options.print = [&](std::string_view line) { lines.emplace_back(line); };
    Trainer(options).fit(make_net(), batches, make_loader());
    return diary->notes;
  };
  const Example batch{torch::zeros({4, 2}), torch::zeros({4, 1})};
  CHECK(run([](auto& o) { o.limit_train_batches = 0; }, {batch}) == Names{"0:end"});
  CHECK(run([](auto& o) { o.limit_train_batches = 0.0; }, {batch}) == Names{"0:end"});
  CHECK(run([](auto& o) { o.max_epochs = -1; }, {}) == Names{"0:end"});
  CHECK(lines == Names(3, message));

  // One that can be read once, and does not tell when it is at its end.
  struct Stream {
    auto begin() { return std::exchange(is_begun, true) ? left.end() : left.begin(); }
    auto end() { return left.end(); }
    std::list<Example> left;
    bool is_begun = false;
  };
  TrainerOptions options = with([](auto& o) { o.max_steps = 5; });
  options.max_epochs.reset();
  options.print = [&](std::string_view line) { lines.emplace_back(line); };
  Stream stream{.left = {batch, batch}};
  Trainer trainer(options);
  trainer.fit(make_net(), stream);
  CHECK(trainer.global_step() == 2);
  CHECK(lines == Names(4, message));
}

TEST_CASE("A fast_dev_run is a few batches of everything, without loggers", "[trainer]") {
  class Refuses : public Logger {
    void log_metrics(const std::map<std::string, double>&, std::int64_t) override { throw Error("logged"); }
    void finalize(const std::string&) override { throw Error("finalized"); }
  };
  const Fitted fitted = fit(with([](auto& options) {
    options.fast_dev_run = 2;
    options.loggers = {std::make_shared<Refuses>()};
  }));
  CHECK(fitted.diary->notes == Names{"0:step", "1:step", "2:validation", "2:epoch", "2:end"});
}

TEST_CASE("A sanity check validates first and leaves no trace", "[trainer]") {
  const Fitted without = fit(with([](auto&) {}));
  const Fitted checked = fit(with([](auto& options) { options.num_sanity_val_steps = 1; }));
  REQUIRE(checked.diary->notes.size() == without.diary->notes.size() + 2);
  CHECK(checked.diary->notes[0] == "0:sanity");
  CHECK(checked.diary->notes[1] == "0:validation");
  CHECK(checked.metrics == without.metrics);
}

TEST_CASE("Time ends a run after the step that it runs out in, that before a resume included", "[trainer]") {
  auto time = std::make_shared<std::chrono::steady_clock::time_point>();
  const auto io = std::make_shared<CountingIO>();
  const auto run = [&](const std::optional<std::string>& ckpt_path, std::int64_t max_steps) {
    const auto net = make_net();
    net->on_step = [&](std::int64_t) { *time += std::chrono::minutes(1); };
    TrainerOptions options = quiet(2, io);
    options.max_time = std::chrono::minutes(9);
    options.max_steps = max_steps;
    options.clock = [&] { return *time; };
    Trainer trainer(options);
    trainer.fit(net, make_loader(), make_loader(), ckpt_path);
    trainer.save_checkpoint("stopped");
    return trainer.global_step();
  };
  CHECK(run(std::nullopt, -1) == 9);
  CHECK(run(std::nullopt, 4) == 4);
  CHECK(run("stopped", -1) == 9);
}

TEST_CASE("stop() ends no run before min_epochs and min_steps are done", "[trainer]") {
  const auto stop_at_once = [](TrainerOptions& options) {
    options.callbacks = {std::make_shared<AfterStep>([](Trainer& trainer) { trainer.stop(); })};
  };
  CHECK(fit(with(stop_at_once)).global_step == 1);
  CHECK(fit(with([&](auto& options) {
          stop_at_once(options);
          options.min_steps = 3;
        })).global_step == 3);
  CHECK(fit(with([&](auto& options) {
          stop_at_once(options);
          options.min_epochs = 1;
        })).global_step == 6);
}

TEST_CASE("SIGTERM and SIGINT end a fit after the step, whole, and are as before afterwards", "[trainer]") {
  for (const int signal : {SIGTERM, SIGINT}) {
    const auto raise_in_step_2 = [&](SmallNet& net) {
      net.on_step = [&net, signal](std::int64_t) {
        if (net.global_step() == 1) ::raise(signal);
      };
    };
    const Fitted fitted = fit(quiet(2, nullptr), raise_in_step_2);
    CHECK(fitted.global_step == 2);
    CHECK(fitted.interrupted == signal);
    CHECK(fitted.diary->notes == Names{"0:step", "1:step", "2:signal " + std::to_string(signal), "2:end"});
    struct sigaction now = {};
    sigaction(signal, nullptr, &now);
    CHECK(now.sa_handler != SIG_IGN);
    CHECK_FALSE(fit(quiet(1, nullptr)).interrupted);
  }
}

TEST_CASE("A signal in a validation is heeded after it", "[trainer]") {
  struct Net : SmallNet {
    void on_validation_epoch_end() override { ::raise(SIGTERM); }
  };
  TrainerOptions options = quiet(3, nullptr);
  Trainer trainer(options);
  const auto net = std::make_shared<Net>();
  trainer.fit(net, make_loader(), make_loader());
  CHECK(trainer.interrupted() == SIGTERM);
  CHECK(trainer.current_epoch() == 1);
}

TEST_CASE("A signal that comes too late to end anything is told", "[trainer]") {
  struct Net : SmallNet {
    void on_train_end() override { ::raise(SIGTERM); }
  };
  Trainer trainer(quiet(1, nullptr));
  trainer.fit(std::make_shared<Net>(), make_loader());
  CHECK(trainer.interrupted() == SIGTERM);
}

TEST_CASE("Loggers get what was logged, under the step it was measured at", "[trainer]") {
  class Rows : public Logger {
   public:
    void log_metrics(const std::map<std::string, double>& metrics, std::int64_t step) override {
      for (const auto& [name, value] : metrics) names.push_back(std::to_string(step) + " " + name);
    }
    void log_hyperparams(const Dict& hyper_parameters) override { n_hyper_parameters = hyper_parameters.size(); }
    void finalize(const std::string& s) override { status = s; }
    Names names;
    std::size_t n_hyper_parameters = 0;
    std::string status;
  };
  const auto rows = std::make_shared<Rows>();
  fit(with(
          [&](auto& options) {
            options.log_every_n_steps = 3;
            options.loggers = {rows};
          },
          1),
      [](SmallNet& net) {
        net.save_hyperparameters({{"width", 8}});
      });
  CHECK(rows->names ==
        Names{"2 epoch", "2 loss_step", "5 epoch", "5 loss_step", "5 epoch", "5 val_loss", "5 epoch", "5 loss_epoch"});
  CHECK(rows->n_hyper_parameters == 1);
  CHECK(rows->status == "success");
}

TEST_CASE("test and predict run their steps with their hooks", "[trainer]") {
  struct Net : SmallNet {
    void test_step(const Example& batch, std::int64_t) { log("test_mean", batch.data.mean()); }
    torch::Tensor predict_step(const Example& batch, std::int64_t) { return forward(batch.data); }
  };
  class Hooks : public Callback {
   public:
    void on_test_epoch_end(Trainer&, TrainingModule& module) override { seen = module.is_training() ? "" : "test"; }
    void on_predict_batch_end(Trainer& t, TrainingModule&, std::int64_t i) override {
      seen = t.stage() + std::to_string(i);
    }
    std::string seen;
  };
  const auto hooks = std::make_shared<Hooks>();
  TrainerOptions options = quiet(1, nullptr, {hooks});
  options.limit_predict_batches = 2;
  Trainer trainer(options);
  const auto net = std::make_shared<Net>();
  CHECK(trainer.test(net, make_loader()).contains("test_mean"));
  CHECK(hooks->seen == "test");
  const std::vector<torch::Tensor> predictions = trainer.predict(net, make_loader());
  CHECK(predictions.size() == 2);
  CHECK(predictions.front().sizes() == at::IntArrayRef({4, 1}));
  CHECK_FALSE(predictions.front().requires_grad());
  CHECK(hooks->seen == "predict1");
}

TEST_CASE("set_ckpt_path says where runs start, unless they are told", "[trainer]") {
  const auto io = std::make_shared<CountingIO>();
  Trainer first(quiet(1, io));
  const auto net = make_net();
  first.fit(net, make_loader());
  first.save_checkpoint("one");
  Trainer trainer(quiet(2, io));
  trainer.set_ckpt_path("one");
  trainer.fit(make_net(), make_loader());
  CHECK(trainer.ckpt_path() == "one");
  CHECK(trainer.global_step() == 12);
  CHECK_THROWS_AS(trainer.fit(make_net(), make_loader(), std::nullopt, "two"), NotFoundError);
  trainer.set_ckpt_path(std::nullopt);
  trainer.fit(make_net(), make_loader());
  CHECK_FALSE(trainer.ckpt_path());
}

TEST_CASE("A strategy that handles checkpoints by itself refuses a user's plugin", "[trainer]") {
  class Sharded : public Strategy {
   public:
    using Strategy::Strategy;
    std::string name() const override { return "Sharded"; }
    bool handles_checkpoints() const override { return true; }
  };
  const auto make = [](std::shared_ptr<Strategy> strategy, std::vector<Plugin> plugins) {
    TrainerOptions options = quiet(1, nullptr);
    options.strategy = std::move(strategy);
    options.plugins = std::move(plugins);
    return std::make_unique<Trainer>(options);
  };
  const auto io = std::make_shared<CountingIO>();
  CHECK_THROWS_WITH(make(std::make_shared<Sharded>(io), {std::make_shared<CountingIO>()}),
                    Catch::Contains("`Sharded` strategy") && Catch::Contains("not possible to use a custom"));
  CHECK_THROWS_WITH(make(std::make_shared<Strategy>(io), {std::make_shared<CountingIO>()}),
                    "checkpoint_io set through both strategy class and plugins, choose one");
  CHECK(&make(std::make_shared<Sharded>(io), {})->checkpoint_io() == io.get());
  CHECK(&make(std::make_shared<Strategy>(), {io})->checkpoint_io() == io.get());
  CHECK(dynamic_cast<TorchCheckpointIO*>(&make(std::make_shared<Sharded>(), {})->checkpoint_io()) != nullptr);
}

// Copies the tensors only when it is let: what the Trainer changes before that is seen in the copy.
class LateIO : public CountingIO {
 public:
  bool saves_asynchronously() const override { return true; }
  SaveFuture async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                   const std::optional<Dict>&) override {
    held = checkpoint;
    ++n_begun;
    return SaveFuture(progress = std::make_shared<detail::SaveProgress>(path));
  }
  // What a thread of a real one does.
  void stage() {
    if (!progress) return;
    CountingIO::save_checkpoint(*held, progress->path(), std::nullopt);
    const auto done = std::exchange(progress, nullptr);
    done->reach(SaveStage::Staged);
    done->reach(SaveStage::Durable);
  }
  std::optional<Checkpoint> held;
  std::shared_ptr<detail::SaveProgress> progress;
  int n_begun = 0;
};

TEST_CASE("Copying goes on during the next forward and backward, and sees nothing of the step after", "[trainer]") {
  const auto io = std::make_shared<LateIO>();
  std::vector<Checkpoint> expected;
  class Saver : public Callback {
   public:
    Saver(LateIO& io, std::vector<Checkpoint>& expected) : io_(io), expected_(expected) {}
    bool saves_checkpoints() const override { return true; }
    void on_train_batch_end(Trainer& trainer, TrainingModule&, const at::Tensor&, std::int64_t) override {
      const auto twin = std::make_shared<MemoryStorage>();
      TorchCheckpointIO(twin).save_checkpoint(trainer.dump_checkpoint(), "now");
      expected_.push_back(*TorchCheckpointIO(twin).load_checkpoint("now"));
      trainer.async_save_checkpoint("step=" + std::to_string(trainer.global_step()));
    }
    void on_after_backward(Trainer&, TrainingModule&) override {
      overlapped += io_.progress != nullptr;
      io_.stage();
    }
    void on_checkpoint_saved(Trainer&, TrainingModule&, const std::string& path, const SaveTiming&) override {
      saved.push_back(path);
    }
    int overlapped = 0;
    Names saved;

   private:
    LateIO& io_;
    std::vector<Checkpoint>& expected_;
  };
  const auto saver = std::make_shared<Saver>(*io, expected);
  // What the last step left is copied when the epoch's validation runs.
  class StageInValidation : public Callback {
   public:
    explicit StageInValidation(LateIO& io) : io_(io) {}
    void on_validation_start(Trainer&, TrainingModule&) override { io_.stage(); }

   private:
    LateIO& io_;
  };
  TrainerOptions options = quiet(2, io, {std::make_shared<StageInValidation>(*io), saver});
  Trainer trainer(options);
  trainer.fit(make_net(), make_loader(), make_loader());
  CHECK(io->n_begun == 12);
  CHECK(saver->overlapped == 10);
  REQUIRE(saver->saved.size() == 12);
  for (int step = 1; step <= 12; ++step) {
    const std::string path = "step=" + std::to_string(step);
    INFO(path);
    CHECK(saver->saved[step - 1] == path);
    CHECK(first_difference(*io->load_checkpoint(path, {}), expected[step - 1]) == "");
  }
}

TEST_CASE("A save that fails in the background is told, and ends the run", "[trainer]") {
  class Fails : public CountingIO {
   public:
    SaveFuture async_save_checkpoint(const Checkpoint&, const std::string& path, const std::optional<Dict>&) override {
      const auto progress = std::make_shared<detail::SaveProgress>(path);
      progress->reach(SaveStage::Staged);
      progress->fail(std::make_exception_ptr(IoError("disk full")));
      return SaveFuture(progress);
    }
  };
  class Hears : public AfterStep {
   public:
    Hears() : AfterStep([](Trainer& trainer) { trainer.async_save_checkpoint("a"); }) {}
    void on_checkpoint_save_failed(Trainer&, TrainingModule&, const std::string& path) override { failed = path; }
    std::string failed;
  };
  const auto hears = std::make_shared<Hears>();
  Trainer trainer(quiet(2, std::make_shared<Fails>(), {hears}));
  CHECK_THROWS_WITH(trainer.fit(make_net(), make_loader()), "disk full");
  CHECK(hears->failed == "a");
  CHECK(trainer.global_step() == 1);
}

TEST_CASE("What a save and a load cost is told", "[trainer]") {
  class Costs : public Callback {
   public:
    void on_checkpoint_saved(Trainer&, TrainingModule&, const std::string& path, const SaveTiming& timing) override {
      saved.emplace_back(path, timing);
    }
    void on_checkpoint_loaded(Trainer&, TrainingModule&, const std::string& path, const LoadTiming& timing) override {
      loaded.emplace_back(path, timing);
    }
    std::vector<std::pair<std::string, SaveTiming>> saved;
    std::vector<std::pair<std::string, LoadTiming>> loaded;
  };
  const auto costs = std::make_shared<Costs>();
  const auto io = std::make_shared<TorchCheckpointIO>(std::make_shared<MemoryStorage>());
  Trainer trainer(quiet(1, io, {costs}));
  const auto net = make_net();
  trainer.fit(net, make_loader());
  trainer.save_checkpoint("end");
  REQUIRE(costs->saved.size() == 1);
  CHECK(costs->saved[0].first == "end");
  CHECK(costs->saved[0].second.n_bytes > 0);
  CHECK(costs->saved[0].second.writing.count() > 0);
  trainer.fit(make_net(), make_loader(), std::nullopt, "end");
  REQUIRE(costs->loaded.size() == 1);
  CHECK(costs->loaded[0].second.n_bytes == costs->saved[0].second.n_bytes);
  CHECK(costs->loaded[0].second.loading.count() > 0);
}

}  // namespace
}  // namespace ckptio::test
