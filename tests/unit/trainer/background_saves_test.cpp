// SPDX-License-Identifier: Apache-2.0
// A Trainer with plugins that wrap others, above all the one that saves in the background.
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <set>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/trainer/model_checkpoint.h"
#include "small_run.h"
#include "support/catch.h"
#include "support/gate.h"
#include "support/same_bits.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

using Names = std::vector<std::string>;

TEST_CASE("A wrapper without a plugin gets the Trainer's, however deep it is", "[trainer]") {
  const auto innermost = std::make_shared<AsyncCheckpointIO>();
  const bool is_nested = GENERATE(false, true), is_in_strategy = GENERATE(false, true);
  const auto io = is_nested ? std::make_shared<AsyncCheckpointIO>(innermost) : innermost;
  TrainerOptions options = quiet(1, is_in_strategy ? nullptr : io);
  if (is_in_strategy) options.strategy = std::make_shared<Strategy>(io);
  const Trainer trainer(options);
  CHECK(&trainer.checkpoint_io() == io.get());
  CHECK(io->is_configured());
  CHECK(dynamic_cast<TorchCheckpointIO*>(innermost->checkpoint_io().get()) != nullptr);
}

TEST_CASE("A wrapper keeps the plugin it has, which the Trainer gives its state and tears down", "[trainer]") {
  const auto base = std::make_shared<InPlaceIO>();
  const auto io = std::make_shared<AsyncCheckpointIO>(std::make_shared<WrappingCheckpointIO>(base));
  Trainer trainer(quiet(1, io));
  const auto net = make_net();
  trainer.fit(net, make_loader());
  CHECK(base->n_teardowns == 1);
  trainer.save_checkpoint("one");
  CHECK_THROWS_AS(trainer.fit(net, make_loader(), std::nullopt, "absent"), NotFoundError);
  CHECK(base->n_teardowns == 2);
  trainer.fit(net, make_loader(), std::nullopt, "one");
  CHECK(base->had_state);
  CHECK(base->n_saves == 1);
  CHECK(base->n_teardowns == 3);
}

class Reserving : public AsyncCheckpointIO {
 public:
  using AsyncCheckpointIO::AsyncCheckpointIO;
  void reserve(const Checkpoint& checkpoint) override {
    const auto moments = checkpoint.at("optimizer_states").at(0).at("state").as<Dict>().size();
    reserved.emplace_back(checkpoint.at("state_dict").as<Dict>().size(), moments);
    AsyncCheckpointIO::reserve(checkpoint);
  }
  std::vector<std::pair<std::size_t, std::size_t>> reserved;
};

TEST_CASE("A plugin that saves in the background hears how much, as fit starts and after its first step", "[trainer]") {
  TempFolder folder;
  const auto io = std::make_shared<Reserving>(std::make_shared<CountingIO>());
  const auto saver =
      std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.dirpath = folder.path(), .save_last = true});
  TrainerOptions options = quiet(2, std::make_shared<WrappingCheckpointIO>(io), {saver});
  const auto net = make_net();
  const std::size_t n_tensors = state_dict(*net).size(), n_parameters = net->parameters().size();
  Trainer(options).fit(net, make_loader());
  CHECK(io->reserved == std::vector<std::pair<std::size_t, std::size_t>>{{n_tensors, 0}, {n_tensors, n_parameters}});
  io->reserved.clear();
  options.callbacks.clear();
  options.enable_checkpointing = false;
  Trainer(options).fit(net, make_loader());
  CHECK(io->reserved.empty());
}

// Fails where it is told to, on the thread that saves.
class FailingIO : public CountingIO {
 public:
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options) override {
    gate.pass();
    if (failing.contains(path)) throw IoError("no room for " + path, ENOSPC);
    CountingIO::save_checkpoint(checkpoint, path, storage_options);
  }
  std::set<std::string> failing;
  Gate gate{true};
};

class Hears : public Callback {
 public:
  void on_checkpoint_saved(Trainer&, TrainingModule&, const std::string& path, const SaveTiming&) override {
    heard.push_back("saved " + path);
  }
  void on_checkpoint_save_failed(Trainer&, TrainingModule&, const std::string& path) override {
    heard.push_back("failed " + path);
  }
  Names heard;
};

TEST_CASE("A background error after fit surfaces once, in whatever the Trainer does next", "[trainer]") {
  const auto base = std::make_shared<FailingIO>();
  const auto hears = std::make_shared<Hears>();
  Names printed;
  TrainerOptions options = quiet(1, std::make_shared<AsyncCheckpointIO>(base), {hears});
  options.print = [&](std::string_view line) {
    if (line.find("failed") != line.npos) printed.emplace_back(line);
  };
  Trainer trainer(options);
  const auto net = make_net();
  trainer.fit(net, make_loader());
  base->failing = {"a"};
  const std::string next = GENERATE(as<std::string>(), "save", "remove", "validate", "resume");
  INFO(next);
  const auto call = [&] {
    if (next == "save") trainer.save_checkpoint("b");
    if (next == "remove") trainer.remove_checkpoint("b");
    if (next == "validate") trainer.validate(net, make_loader(), "there");
    if (next == "resume") trainer.fit(net, make_loader(), std::nullopt, "there");
  };
  trainer.async_save_checkpoint("there").wait();
  base->gate.close();
  trainer.save_checkpoint("a");
  base->gate.open();
  CHECK_THROWS_WITH(call(), "no room for a");
  CHECK_NOTHROW(call());
  CHECK_NOTHROW(call());
  trainer.save_checkpoint("end");
  CHECK(std::count(hears->heard.begin(), hears->heard.end(), "failed a") == 1);
  CHECK(printed == Names{});
}

TEST_CASE("A background error that a future threw does not end the run", "[trainer]") {
  const auto base = std::make_shared<FailingIO>();
  base->failing = {"step=2"};
  const auto hears = std::make_shared<Hears>();
  int n_caught = 0;
  const auto saver = std::make_shared<AfterStep>([&](Trainer& trainer) {
    const SaveFuture save = trainer.async_save_checkpoint("step=" + std::to_string(trainer.global_step()));
    try {
      save.wait();
    } catch (const IoError&) {
      ++n_caught;
    }
  });
  Trainer trainer(quiet(1, std::make_shared<AsyncCheckpointIO>(base), {hears, saver}));
  CHECK_NOTHROW(trainer.fit(make_net(), make_loader()));
  CHECK(n_caught == 1);
  CHECK(hears->heard ==
        Names{"saved step=1", "failed step=2", "saved step=3", "saved step=4", "saved step=5", "saved step=6"});
}

TEST_CASE("A background error within a run ends it, once, and the next run works", "[trainer]") {
  const auto base = std::make_shared<FailingIO>();
  base->failing = {"step=3"};
  const auto hears = std::make_shared<Hears>();
  const auto saver = std::make_shared<AfterStep>(
      [](Trainer& trainer) { trainer.async_save_checkpoint("step=" + std::to_string(trainer.global_step())); });
  Names printed;
  TrainerOptions options = quiet(1, std::make_shared<AsyncCheckpointIO>(base), {hears, saver});
  options.print = [&](std::string_view line) {
    if (line.find("failed") != line.npos) printed.emplace_back(line);
  };
  Trainer trainer(options);
  CHECK_THROWS_WITH(trainer.fit(make_net(), make_loader()), "no room for step=3");
  CHECK(std::count(hears->heard.begin(), hears->heard.end(), "failed step=3") == 1);
  CHECK(printed == Names{});
  base->failing.clear();
  CHECK_NOTHROW(trainer.fit(make_net(), make_loader()));
  CHECK(trainer.global_step() == 6);
}

// The names and contents, without the callbacks' paths, of the files that a fit of two ModelCheckpoints leaves.
std::map<std::string, Checkpoint> files_left_by(const std::shared_ptr<CheckpointIO>& io) {
  const TempFolder folder;
  const auto best = std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.dirpath = folder.path(), .monitor = "val_loss", .save_last = true, .save_top_k = 2});
  const auto newest = std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{
      .dirpath = folder.path(), .filename = "{step}", .save_last = "link", .every_n_train_steps = 1});
  torch::manual_seed(3);
  Trainer trainer(quiet(4, io, {best, newest}));
  trainer.fit(make_net(), make_loader(), make_loader());
  std::map<std::string, Checkpoint> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    Checkpoint& file = files[entry.path().filename()] = *TorchCheckpointIO().load_checkpoint(entry.path());
    file.erase("callbacks");
  }
  return files;
}

TEST_CASE("ModelCheckpoints leave the same files, whether the plugin saves at once or in the background", "[trainer]") {
  const auto expected = files_left_by(std::make_shared<TorchCheckpointIO>());
  CHECK(expected.size() == 5);
  for (const std::size_t max_pending : {1, 3}) {
    const auto found = files_left_by(std::make_shared<AsyncCheckpointIO>(
        std::make_shared<TorchCheckpointIO>(), AsyncCheckpointIOOptions{.max_pending = max_pending}));
    REQUIRE(found.size() == expected.size());
    for (const auto& [name, checkpoint] : expected) {
      INFO(name);
      CHECK(first_difference(found.at(name), checkpoint) == "");
    }
  }
}

// What a checkpoint would be at the moment it is called.
Checkpoint now(Trainer& trainer) {
  const auto twin = std::make_shared<MemoryStorage>();
  TorchCheckpointIO(twin).save_checkpoint(trainer.dump_checkpoint(), "now");
  return *TorchCheckpointIO(twin).load_checkpoint("now");
}

class SavesBeforeStep : public Callback {
 public:
  void on_before_optimizer_step(Trainer& trainer, TrainingModule&) override {
    expected.push_back(now(trainer));
    trainer.async_save_checkpoint(std::to_string(expected.size()));
  }
  bool saves_checkpoints() const override { return true; }
  std::vector<Checkpoint> expected;
};

TEST_CASE("A save right before the optimizer steps sees nothing of the step", "[trainer]") {
  const auto base = std::make_shared<CountingIO>();
  const auto saver = std::make_shared<SavesBeforeStep>();
  Trainer trainer(quiet(1, std::make_shared<AsyncCheckpointIO>(base), {saver}));
  class Wide : public SmallNet {
   public:
    Wide() { register_parameter("more", torch::zeros({4 << 20})); }
  };
  torch::manual_seed(1);
  CHECK_NOTHROW(trainer.fit(std::make_shared<Wide>(), make_loader()));
  CHECK(saver->expected.size() == 6);
  for (std::size_t i = 0; i < saver->expected.size(); ++i) {
    CHECK(first_difference(*base->load_checkpoint(std::to_string(i + 1), {}), saver->expected[i]) == "");
  }
}

}  // namespace
}  // namespace ckptio::test
