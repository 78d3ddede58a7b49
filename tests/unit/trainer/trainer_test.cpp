// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/trainer.h"

#include "ckptio/version.h"
#include "small_run.h"
#include "support/catch.h"
#include "support/same_bits.h"

namespace ckptio::test {
namespace {

std::vector<std::string> keys(const Dict& dict) {
  std::vector<std::string> names;
  for (const auto& [key, value] : dict) names.push_back(key.as<std::string>());
  return names;
}

// Writes down every hook, its own and those of the module it trains.
struct Log {
  std::vector<std::string> lines;
  void operator()(const std::string& line) { lines.push_back(line); }
};

class LoggingNet : public SmallNet {
 public:
  explicit LoggingNet(Log& log) : log_(log) {}
  OptimizersAndSchedulers configure_optimizers() override {
    log_("configure_optimizers");
    return SmallNet::configure_optimizers();
  }
  void on_save_checkpoint(Checkpoint&) override { log_("module.on_save_checkpoint"); }
  void on_load_checkpoint(Checkpoint&) override { log_("module.on_load_checkpoint"); }
  void on_train_epoch_end() override { log_("module.on_train_epoch_end"); }

 private:
  Log& log_;
};

class LoggingCallback : public Callback {
 public:
  explicit LoggingCallback(Log& log) : log_(log) {}
  void setup(Trainer&, TrainingModule&, const std::string& stage) override { log_("setup " + stage); }
  void teardown(Trainer&, TrainingModule&, const std::string& stage) override { log_("teardown " + stage); }
  void on_fit_start(Trainer&, TrainingModule&) override { log_("on_fit_start"); }
  void on_fit_end(Trainer&, TrainingModule&) override { log_("on_fit_end"); }
  void on_train_start(Trainer&, TrainingModule&) override { log_("on_train_start"); }
  void on_train_end(Trainer&, TrainingModule&) override { log_("on_train_end"); }
  void on_train_epoch_start(Trainer&, TrainingModule&) override { log_("on_train_epoch_start"); }
  void on_train_epoch_end(Trainer&, TrainingModule&) override { log_("on_train_epoch_end"); }
  void on_train_batch_start(Trainer&, TrainingModule&, std::int64_t i) override {
    log_("on_train_batch_start " + std::to_string(i));
  }
  void on_train_batch_end(Trainer&, TrainingModule&, const at::Tensor& loss, std::int64_t i) override {
    CHECK(loss.defined());
    log_("on_train_batch_end " + std::to_string(i));
  }
  void on_validation_start(Trainer&, TrainingModule&) override { log_("on_validation_start"); }
  void on_validation_batch_end(Trainer&, TrainingModule&, std::int64_t i) override {
    log_("on_validation_batch_end " + std::to_string(i));
  }
  void on_validation_end(Trainer&, TrainingModule&) override { log_("on_validation_end"); }
  void on_exception(Trainer&, TrainingModule&, const std::exception_ptr&) override { log_("on_exception"); }
  void on_save_checkpoint(Trainer&, TrainingModule&, Checkpoint& checkpoint) override {
    checkpoint["mine"] = 7;
    log_("callback.on_save_checkpoint");
  }
  void on_load_checkpoint(Trainer&, TrainingModule& module, const Checkpoint& checkpoint) override {
    weights_at_load = ckptio::state_dict(module).at("fc1.weight").as<at::Tensor>().clone();
    loaded = keys(checkpoint);
    log_("callback.on_load_checkpoint");
  }
  Dict state_dict() const override {
    log_("callback.state_dict");
    return Dict{{"n", 3}};
  }
  void load_state_dict(const Dict& state) override {
    CHECK(state == Dict{{"n", 3}});
    log_("callback.load_state_dict");
  }
  std::string state_key() const override { return "LoggingCallback"; }

  at::Tensor weights_at_load;
  std::vector<std::string> loaded;

 private:
  Log& log_;
};

// One epoch of two batches and a validation of one.
void fit_briefly(Trainer& trainer, SmallNet& net, const std::optional<std::string>& ckpt_path = std::nullopt) {
  auto train = make_loader(11);
  auto val = make_loader(22);
  trainer.fit(net, train, val, ckpt_path);
}

TEST_CASE("A fit calls its hooks in Lightning's order", "[trainer]") {
  Log log;
  LoggingNet net(log);
  Trainer trainer(quiet(1, std::make_shared<CountingIO>(), {std::make_shared<LoggingCallback>(log)}));
  log.lines.clear();
  fit_briefly(trainer, net);
  CHECK(log.lines == std::vector<std::string>{"setup fit", "configure_optimizers", "on_fit_start", "on_train_start",
                                              "on_train_epoch_start", "on_train_batch_start 0", "on_train_batch_end 0",
                                              "on_train_batch_start 1", "on_train_batch_end 1", "on_validation_start",
                                              "on_validation_batch_end 0", "on_validation_end", "on_train_epoch_end",
                                              "module.on_train_epoch_end", "on_train_end", "on_fit_end",
                                              "teardown fit"});
}

TEST_CASE("Saving and loading call their hooks in Lightning's order", "[trainer]") {
  Log log;
  LoggingNet net(log);
  const auto io = std::make_shared<CountingIO>();
  const auto callback = std::make_shared<LoggingCallback>(log);
  Trainer trainer(quiet(1, io, {callback}));
  fit_briefly(trainer, net);

  log.lines.clear();
  trainer.save_checkpoint("end");
  CHECK(log.lines ==
        std::vector<std::string>{"callback.state_dict", "callback.on_save_checkpoint", "module.on_save_checkpoint"});
  log.lines.clear();
  trainer.save_checkpoint("weights", /*weights_only=*/true);
  CHECK(log.lines == std::vector<std::string>{"module.on_save_checkpoint"});

  LoggingNet other(log);
  log.lines.clear();
  fit_briefly(trainer, other, "end");
  CHECK(log.lines == std::vector<std::string>{"setup fit", "module.on_load_checkpoint", "callback.on_load_checkpoint",
                                              "callback.load_state_dict", "configure_optimizers", "on_fit_start",
                                              "on_train_start", "on_train_end", "on_fit_end", "teardown fit"});
  CHECK(same_bits(callback->weights_at_load, net.fc1->weight));
  CHECK(callback->loaded.back() == "mine");
}

TEST_CASE("A load fires no saving hooks, also where the plugin restores in place", "[trainer]") {
  Log log;
  LoggingNet net(log);
  const bool returns_rest = GENERATE(false, true);
  const auto io = std::make_shared<InPlaceIO>(returns_rest);
  const auto callback = std::make_shared<LoggingCallback>(log);
  Trainer trainer(quiet(1, io, {callback}));
  fit_briefly(trainer, net);
  trainer.save_checkpoint("end");
  log.lines.clear();
  fit_briefly(trainer, net, "end");
  CHECK(io->had_state);
  CHECK(std::ranges::count(log.lines, "callback.on_save_checkpoint") == 0);
  CHECK(std::ranges::count(log.lines, "module.on_save_checkpoint") == 0);
  CHECK(std::ranges::count(log.lines, "callback.on_load_checkpoint") == 1);
  CHECK(std::ranges::count(log.lines, "callback.load_state_dict") == 1);
  CHECK(callback->loaded.front() == (returns_rest ? "epoch" : "state_dict"));
}

TEST_CASE("A checkpoint has Lightning's keys in their order", "[trainer]") {
  SmallNet net;
  net.save_hyperparameters(Dict{{"lr", 0.1}});
  Log log;
  Trainer trainer(quiet(1, std::make_shared<CountingIO>(), {std::make_shared<LoggingCallback>(log)}));
  fit_briefly(trainer, net);
  const Checkpoint full = trainer.dump_checkpoint();
  CHECK(keys(full) == std::vector<std::string>{"epoch", "global_step", "pytorch-lightning_version", "ckptio_version",
                                               "state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers",
                                               "rng_state", "hyper_parameters", "mine"});
  CHECK(full.at("epoch") == Value(1));
  CHECK(full.at("global_step") == Value(2));
  CHECK(full.at("ckptio_version") == Value(kVersion));
  CHECK(full.at("callbacks") == Value(Dict{{"LoggingCallback", Dict{{"n", 3}}}}));
  CHECK(keys(trainer.dump_checkpoint(/*weights_only=*/true)) ==
        std::vector<std::string>{"epoch", "global_step", "pytorch-lightning_version", "ckptio_version", "state_dict",
                                 "loops", "hyper_parameters"});
}

TEST_CASE("A checkpoint saved in on_train_epoch_end has the index of that epoch and the next learning rate",
          "[trainer]") {
  class Saver : public Callback {
   public:
    void on_train_epoch_end(Trainer& trainer, TrainingModule&) override { saved.push_back(trainer.dump_checkpoint()); }
    std::vector<Checkpoint> saved;
  };
  const auto saver = std::make_shared<Saver>();
  SmallNet net;
  Trainer trainer(quiet(2, nullptr, {saver}));
  fit_briefly(trainer, net);
  REQUIRE(saver->saved.size() == 2);
  CHECK(saver->saved[0].at("epoch") == Value(0));
  CHECK(saver->saved[1].at("epoch") == Value(1));
  CHECK(saver->saved[0].at("lr_schedulers").at(1).at("last_epoch") == Value(1));
  CHECK(trainer.current_epoch() == 2);
}

TEST_CASE("Nothing can be saved before a module is attached", "[trainer]") {
  Trainer trainer(quiet(1, nullptr));
  CHECK_THROWS_AS(trainer.save_checkpoint("x"), MisconfigurationError);
  CHECK_THROWS_WITH(trainer.save_checkpoint("x"),
                    StartsWith("Saving a checkpoint is only possible if a model is attached to the Trainer."));
  {
    SmallNet net;
    fit_briefly(trainer, net);
    CHECK_NOTHROW(trainer.dump_checkpoint());
  }
  CHECK_THROWS_AS(trainer.save_checkpoint("x"), MisconfigurationError);  // the module is gone
}

TEST_CASE("A module outlives its Trainer", "[trainer]") {
  SmallNet net;
  {
    Trainer trainer(quiet(1, nullptr));
    fit_briefly(trainer, net);
    CHECK(&net.trainer() == &trainer);
  }
  CHECK_THROWS_AS(net.trainer(), MisconfigurationError);
  net.log("loss", 1.0);  // no Trainer: nothing happens
  CHECK(net.global_step() == 0);
}

TEST_CASE("save_checkpoint hands its storage_options to the plugin", "[trainer]") {
  SmallNet net;
  Trainer trainer(quiet(1, std::make_shared<CountingIO>()));
  fit_briefly(trainer, net);
  CHECK_THROWS_AS(trainer.save_checkpoint("x", false, Dict{}), TypeError);
}

TEST_CASE("The plugin is torn down after each run, failed ones too", "[trainer]") {
  const auto io = std::make_shared<CountingIO>();
  Log log;
  Trainer trainer(quiet(1, io, {std::make_shared<LoggingCallback>(log)}));
  SmallNet net;
  fit_briefly(trainer, net);
  CHECK(io->n_teardowns == 1);
  trainer.validate(net, make_loader());
  CHECK(io->n_teardowns == 2);
  net.on_step = [](std::int64_t) { throw std::runtime_error("mine"); };
  CHECK_THROWS_WITH(fit_briefly(trainer, net), "mine");
  CHECK(io->n_teardowns == 3);
  CHECK(log.lines.back() == "teardown fit");
  CHECK(log.lines[log.lines.size() - 2] == "on_exception");
  CHECK_THROWS_AS(fit_briefly(trainer, net, "nowhere"), NotFoundError);
  CHECK(io->n_teardowns == 4);
}

// Fails when it is torn down, and when it is told of an exception.
class Failing : public Callback {
 public:
  void on_exception(Trainer&, TrainingModule&, const std::exception_ptr&) override {
    throw std::logic_error("in on_exception");
  }
  void teardown(Trainer&, TrainingModule&, const std::string&) override { throw std::logic_error("in teardown"); }
};

class FailingIO : public CountingIO {
 public:
  void teardown() override {
    CountingIO::teardown();
    throw IoError("the background save failed");
  }
};

TEST_CASE("The exception that ended a run is the one the caller gets", "[trainer]") {
  const auto io = std::make_shared<FailingIO>();
  std::vector<std::string> printed;
  TrainerOptions options = quiet(1, io, {std::make_shared<Failing>()});
  options.print = [&](std::string_view line) { printed.emplace_back(line); };
  Trainer trainer(options);
  SmallNet net;
  net.on_step = [](std::int64_t) { throw 42; };
  CHECK_THROWS_AS(fit_briefly(trainer, net), int);
  CHECK(io->n_teardowns == 1);
  REQUIRE(printed.size() == 3);
  CHECK_THAT(printed[0], ContainsSubstring("in on_exception"));
  CHECK_THAT(printed[1], ContainsSubstring("in teardown"));
  CHECK_THAT(printed[2], ContainsSubstring("the background save failed"));
  net.on_step = [](std::int64_t) { torch::ones({2}).add(torch::ones({3})); };
  CHECK_THROWS_AS(fit_briefly(trainer, net), c10::Error);
}

TEST_CASE("An error in teardown of a run that went well reaches the caller", "[trainer]") {
  SmallNet net;
  Trainer with_failing_io(quiet(1, std::make_shared<FailingIO>()));
  CHECK_THROWS_AS(fit_briefly(with_failing_io, net), IoError);
  const auto io = std::make_shared<CountingIO>();
  Trainer with_failing_callback(quiet(1, io, {std::make_shared<Failing>()}));
  CHECK_THROWS_WITH(fit_briefly(with_failing_callback, net), "in teardown");
  CHECK(io->n_teardowns == 1);
}

TEST_CASE("Options out of range are refused", "[trainer]") {
  CHECK_THROWS_WITH(Trainer({.max_epochs = -2}), "Invalid value for max_epochs=-2. Must be >= -1");
  CHECK_THROWS_AS(Trainer({.max_steps = -2}), MisconfigurationError);
  CHECK_THROWS_AS(Trainer({.check_val_every_n_epoch = -1}), MisconfigurationError);
  CHECK_THROWS_AS(Trainer({.limit_train_batches = -1}), MisconfigurationError);
  CHECK_THROWS_AS(Trainer({.callbacks = {nullptr}}), TypeError);
  CHECK(Trainer().max_epochs() == 1000);
  CHECK(Trainer({.max_steps = 5}).max_epochs() == std::nullopt);
  CHECK(Trainer({.max_epochs = -1}).max_epochs() == std::nullopt);
}

TEST_CASE("Two stateful callbacks can't share a state_key", "[trainer]") {
  Log log;
  const auto callback = [&] { return std::make_shared<LoggingCallback>(log); };
  CHECK_THROWS_AS(Trainer(quiet(1, nullptr, {callback(), callback()})), MisconfigurationError);
  CHECK_THROWS_WITH(Trainer(quiet(1, nullptr, {callback(), callback()})),
                    StartsWith("Found more than one stateful callback of type `LoggingCallback`."));
  log.lines.clear();
  Trainer(quiet(1, nullptr, {callback()}));
  CHECK(log.lines.empty());  // no state is asked for where the keys tell already
}

TEST_CASE("A run resumed at an epoch's end begins with the next epoch", "[trainer]") {
  struct Saver : Callback {
    void on_train_start(Trainer& trainer, TrainingModule&) override { started_at = trainer.current_epoch(); }
    void on_train_epoch_end(Trainer& trainer, TrainingModule&) override { trainer.save_checkpoint("ended"); }
    std::int64_t started_at = -1;
  };
  const auto io = std::make_shared<CountingIO>();
  const auto saver = std::make_shared<Saver>();
  SmallNet net;
  Trainer first(quiet(2, io, {saver}));
  fit_briefly(first, net);
  CHECK(saver->started_at == 0);
  CHECK(io->load_checkpoint("ended", {})->at("epoch") == Value(1));
  Trainer second(quiet(3, io, {saver}));
  fit_briefly(second, net, "ended");
  CHECK(saver->started_at == 2);
  CHECK(second.current_epoch() == 3);
  CHECK(second.global_step() == 6);
}

// A run saved in the middle of its second epoch, as a checkpoint to break.
struct Saved {
  std::shared_ptr<CountingIO> io = std::make_shared<CountingIO>();
  Checkpoint checkpoint;

  Saved() {
    SmallNet net;
    TrainerOptions options = quiet(2, io);
    options.max_steps = 3;
    Trainer trainer(options);
    fit_briefly(trainer, net);
    trainer.save_checkpoint("good");
    checkpoint = *io->load_checkpoint("good", {});
  }

  // Saves the checkpoint as it is now, fails to resume from it, and sees that nothing of the module has changed.
  template <class E>
  void check_refused(const std::string& message, std::shared_ptr<SmallNet> net = std::make_shared<SmallNet>()) {
    io->save_checkpoint(checkpoint, "bad", std::nullopt);
    Dict before;
    for (const auto& [name, value] : state_dict(*net)) before[name] = value.template as<at::Tensor>().clone();
    Trainer trainer(quiet(2, io));
    CHECK_THROWS_AS(fit_briefly(trainer, *net, "bad"), E);
    CHECK_THROWS_WITH(fit_briefly(trainer, *net, "bad"), ContainsSubstring(message));
    CHECK(first_difference(before, state_dict(*net)) == "");
    CHECK(net->seen.empty());
  }
};

TEST_CASE("A checkpoint of weights alone can't be resumed from", "[trainer]") {
  Saved saved;
  saved.checkpoint.erase("lr_schedulers");
  saved.check_refused<KeyError>(
      "Trying to restore learning rate scheduler state but checkpoint contains only the model.");
  saved.checkpoint.erase("optimizer_states");
  saved.check_refused<KeyError>(
      "Trying to restore optimizer state but checkpoint contains only the model. This is probably due to "
      "`ModelCheckpoint.save_weights_only` being set to `True`.");
}

TEST_CASE("A checkpoint past max_epochs can't be resumed from", "[trainer]") {
  Saved saved;
  saved.checkpoint.at("loops").at("fit_loop").at("epoch_progress").at("current").at("processed") = 3;
  saved.check_refused<MisconfigurationError>(
      "You restored a checkpoint with current_epoch=3, but you have set Trainer(max_epochs=2).");
}

TEST_CASE("A checkpoint of other optimizers, schedulers, weights or loops can't be resumed from", "[trainer]") {
  Saved saved;
  const Checkpoint good = saved.checkpoint;
  SECTION("one optimizer too many") {
    auto& states = saved.checkpoint.at("optimizer_states").mutable_as<List>();
    states.push_back(Value(states.at(0)));
    saved.check_refused<MismatchError>("the states of 2 optimizers, configure_optimizers gave 1");
  }
  SECTION("one scheduler too few") {
    saved.checkpoint["lr_schedulers"] = List{good.at("lr_schedulers").at(0)};
    saved.check_refused<MismatchError>("the states of 1 learning rate schedulers, configure_optimizers gave 2");
  }
  SECTION("another optimizer's options") {
    saved.checkpoint.at("optimizer_states").at(0).at("param_groups").at(0).mutable_as<Dict>().erase("momentum");
    saved.check_refused<MismatchError>("momentum");
  }
  SECTION("another shape") {
    saved.checkpoint.at("state_dict")["fc1.weight"] = torch::zeros({3, 3});
    saved.check_refused<MismatchError>("fc1.weight");
  }
  SECTION("a missing weight") {
    saved.checkpoint.at("state_dict").mutable_as<Dict>().erase("fc2.bias");
    saved.check_refused<MismatchError>("fc2.bias");
  }
  SECTION("generators of another kind") {
    saved.checkpoint.at("rng_state")["cpu"] = torch::zeros({3}, torch::kUInt8);
    saved.check_refused<MismatchError>("rng_state");
  }
  SECTION("a stage that is none") {
    saved.checkpoint.at("loops").at("fit_loop").at("ckptio")["stage"] = "lunch";
    saved.check_refused<ValueError>("'lunch' is no stage of an epoch");
  }
  SECTION("no loops") {
    saved.checkpoint.erase("loops");
    saved.check_refused<KeyError>("loops");
  }
}

TEST_CASE("What goes wrong between loading and training puts the weights back", "[trainer]") {
  class Throwing : public SmallNet {
   public:
    OptimizersAndSchedulers configure_optimizers() override { throw std::runtime_error("no optimizer today"); }
  };
  Saved saved;
  saved.check_refused<std::runtime_error>("no optimizer today", std::make_shared<Throwing>());
}

TEST_CASE("A plugin that returns nullopt without having been given a state is an error", "[trainer]") {
  class Confused : public CountingIO {
   public:
    std::optional<Checkpoint> load_checkpoint(const std::string&, const LoadOptions&) override { return std::nullopt; }
  };
  SmallNet net;
  Trainer trainer(quiet(1, std::make_shared<Confused>()));
  CHECK_THROWS_AS(fit_briefly(trainer, net, "x"), TypeError);
}

TEST_CASE("Resuming says so, and names callbacks that are missing", "[trainer]") {
  const auto io = std::make_shared<CountingIO>();
  Log log;
  SmallNet net;
  {
    Trainer trainer(quiet(1, io, {std::make_shared<LoggingCallback>(log)}));
    fit_briefly(trainer, net);
    trainer.save_checkpoint("last.ckpt");
  }
  std::vector<std::string> printed;
  TrainerOptions options = quiet(1, io);
  options.print = [&](std::string_view line) { printed.emplace_back(line); };
  Trainer trainer(options);
  fit_briefly(trainer, net, "last.ckpt");
  REQUIRE(printed.size() == 2);
  CHECK_THAT(printed[0],
             StartsWith("Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need "
                        "to be provided") &&
                 ContainsSubstring("['LoggingCallback']"));
  CHECK(printed[1] == "Restored all states from the checkpoint at last.ckpt");
}

TEST_CASE("validate gives the means of what was logged, and leaves the run's modes alone", "[trainer]") {
  class Net : public TrainingModule {
   public:
    Net() {
      norm = register_module("norm", torch::nn::BatchNorm1d(1));
      norm->eval();  // frozen
    }
    void validation_step(const torch::Tensor& batch, std::int64_t) {
      CHECK_FALSE(is_training());
      CHECK_FALSE(torch::GradMode::is_enabled());
      log("mean", batch.mean());
      log("end", batch.mean(), {.on_step = true, .on_epoch = false});
    }
    torch::nn::BatchNorm1d norm{nullptr};
  };
  Net net;
  Trainer trainer(quiet(1, nullptr));
  const std::vector<torch::Tensor> batches{torch::full({3}, 1.0), torch::full({1}, 5.0)};
  const auto metrics = trainer.validate(net, batches);
  CHECK(metrics == std::map<std::string, double>{{"mean", 2.0}});  // weighted by the size of the batches
  CHECK(trainer.callback_metrics().at("end") == 5.0);
  CHECK(net.is_training());
  CHECK_FALSE(net.norm->is_training());
}

TEST_CASE("validate after a fit leaves the run as it was", "[trainer]") {
  SmallNet net;
  TrainerOptions options = quiet(2, nullptr);
  options.max_steps = 3;
  Trainer trainer(options);
  fit_briefly(trainer, net);
  const Checkpoint before = trainer.dump_checkpoint();
  trainer.validate(net, make_loader());
  const Checkpoint after = trainer.dump_checkpoint();
  for (const char* key : {"global_step", "state_dict", "optimizer_states", "lr_schedulers"}) {
    CHECK(first_difference(after.at(key), before.at(key)) == "");
  }
  const Value& batches = after.at("loops").at("fit_loop").at("epoch_loop.batch_progress").at("current");
  CHECK(batches.at("processed") == Value(1));
  CHECK(trainer.callback_metrics().contains("val_loss"));
}

TEST_CASE("validate takes the weights of a checkpoint", "[trainer]") {
  const bool in_place = GENERATE(false, true);
  const std::shared_ptr<CountingIO> io = in_place ? std::make_shared<InPlaceIO>() : std::make_shared<CountingIO>();
  std::vector<std::string> printed;
  TrainerOptions options = quiet(1, io);
  options.print = [&](std::string_view line) { printed.emplace_back(line); };
  Trainer trainer(options);
  SmallNet net, other;
  fit_briefly(trainer, net);
  trainer.save_checkpoint("last.ckpt");
  trainer.validate(other, make_loader(), "last.ckpt");
  CHECK(first_difference(state_dict(other), state_dict(net)) == "");
  CHECK(trainer.global_step() == 0);
  CHECK(printed == std::vector<std::string>{"Loaded model weights from the checkpoint at last.ckpt"});
}

TEST_CASE("Logged values become metrics: latest per step, mean per epoch", "[trainer]") {
  class Net : public TrainingModule {
   public:
    torch::Tensor training_step(const torch::Tensor& batch, std::int64_t) {
      const double value = batch.mean().item<double>();
      log("step_only", value);
      log("both", value, {.on_epoch = true, .prog_bar = true});
      log("epoch_only", value, {.on_step = false, .on_epoch = true, .batch_size = 1});
      return {};
    }
    void on_train_epoch_end() override { log("at_once", 9.0); }
  };
  Net net;
  Trainer trainer(quiet(1, nullptr));
  const std::vector<torch::Tensor> batches{torch::full({3}, 1.0), torch::full({1}, 5.0)};
  trainer.fit(net, batches);
  CHECK(trainer.callback_metrics() == std::map<std::string, double>{{"at_once", 9.0},
                                                                    {"both", 2.0},
                                                                    {"both_epoch", 2.0},
                                                                    {"both_step", 5.0},
                                                                    {"epoch_only", 3.0},
                                                                    {"step_only", 5.0}});
  CHECK(trainer.progress_bar_metrics() == std::map<std::string, double>{{"both", 2.0}});
  CHECK(trainer.global_step() == 2);
}

TEST_CASE("A scheduler that watches a metric needs its name, and the metric", "[trainer]") {
  class Net : public SmallNet {
   public:
    explicit Net(std::optional<std::string> monitor) : monitor_(std::move(monitor)) {}
    OptimizersAndSchedulers configure_optimizers() override {
      auto sgd = std::make_shared<torch::optim::SGD>(parameters(), 0.1);
      return {{sgd}, {{std::make_shared<ReduceLROnPlateau>(*sgd), {.monitor = monitor_}}}};
    }

   private:
    std::optional<std::string> monitor_;
  };
  Trainer trainer(quiet(1, nullptr));
  Net without(std::nullopt), unknown("accuracy"), known("val_loss");
  CHECK_THROWS_WITH(fit_briefly(trainer, without), ContainsSubstring("must include a monitor"));
  CHECK_THROWS_WITH(fit_briefly(trainer, unknown), ContainsSubstring("'accuracy'") && ContainsSubstring("val_loss"));
  CHECK_NOTHROW(fit_briefly(trainer, known));
}

TEST_CASE("Several optimizers all step on the one loss", "[trainer]") {
  class Net : public SmallNet {
   public:
    OptimizersAndSchedulers configure_optimizers() override {
      return {{std::make_shared<torch::optim::SGD>(fc1->parameters(), 0.1),
               std::make_shared<torch::optim::Adam>(fc2->parameters(), 0.1)}};
    }
  };
  Net net;
  const auto before1 = net.fc1->weight.clone(), before2 = net.fc2->weight.clone();
  Trainer trainer(quiet(1, nullptr));
  fit_briefly(trainer, net);
  CHECK_FALSE(torch::equal(net.fc1->weight, before1));
  CHECK_FALSE(torch::equal(net.fc2->weight, before2));
  CHECK(trainer.global_step() == 2);
  CHECK(trainer.dump_checkpoint().at("optimizer_states").size() == 2);
}

TEST_CASE("A module without optimizers runs and changes nothing", "[trainer]") {
  class Net : public SmallNet {
   public:
    OptimizersAndSchedulers configure_optimizers() override { return {}; }
  };
  Net net;
  const auto before = net.fc1->weight.clone();
  Trainer trainer(quiet(1, nullptr));
  fit_briefly(trainer, net);
  CHECK(torch::equal(net.fc1->weight, before));
}

TEST_CASE("Batches of a DataLoader that does not stack are vectors of examples", "[trainer]") {
  class Net : public TrainingModule {
   public:
    torch::Tensor training_step(const std::vector<Example>& batch, std::int64_t) {
      sizes.push_back(batch.size());
      return {};
    }
    std::vector<std::size_t> sizes;
  };
  Net net;
  auto loader = torch::data::make_data_loader(NoisyPoints(), torch::data::DataLoaderOptions().batch_size(8));
  Trainer trainer(quiet(1, nullptr));
  trainer.fit(net, *loader);
  CHECK(net.sizes == std::vector<std::size_t>{8, 8, 6});
}

TEST_CASE("The seed makes a run repeatable", "[trainer]") {
  const auto run = [](std::optional<std::uint64_t> seed) {
    const auto net = make_net();
    torch::manual_seed(std::rand());
    TrainerOptions options = quiet(1, nullptr);
    options.seed = seed;
    Trainer trainer(options);
    fit_briefly(trainer, *net);
    return net->fc1->weight.clone();
  };
  CHECK(torch::equal(run(5), run(5)));
  CHECK_FALSE(torch::equal(run(5), run(6)));
}

}  // namespace
}  // namespace ckptio::test
