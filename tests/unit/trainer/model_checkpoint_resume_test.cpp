// SPDX-License-Identifier: Apache-2.0
// ModelCheckpoint over a crash and a resume, OnExceptionCheckpoint, and what "best" and "last" find.
#include <signal.h>

#include <chrono>
#include <fstream>

#include "ckptio/trainer/on_exception_checkpoint.h"
#include "scripted_run.h"
#include "support/catch.h"
#include "support/temp_folder.h"
#include "trainer/find_checkpoint.h"

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// Keeps the newest k of every n steps.
std::shared_ptr<ModelCheckpoint> newest(const std::string& dirpath, std::int64_t n, std::int64_t k,
                                        SaveLast save_last = false) {
  return model_checkpoint({.dirpath = dirpath,
                           .filename = "{step}",
                           .monitor = "step",
                           .save_last = save_last,
                           .save_top_k = k,
                           .mode = "max",
                           .every_n_train_steps = n});
}

std::function<void(std::int64_t)> throw_at(std::int64_t step, std::int64_t& done) {
  return [step, &done](std::int64_t) {
    if (done++ == step) throw std::runtime_error("trouble");
  };
}

std::function<void(std::int64_t)> raise_at(std::int64_t step, std::int64_t& done, int signal) {
  return [=, &done](std::int64_t) {
    if (++done == step) ::raise(signal);
  };
}

TEST_CASE("A resumed run goes on in its folder, and leaves another folder as it is", "[model_checkpoint]") {
  const TempFolder folder;
  fit({.n_batches = 5}, 1, {newest(folder / "a", 2, 2)});
  CHECK(names_in(folder / "a") == Names{"step=2.ckpt", "step=4.ckpt"});
  fs::copy(folder / "a", folder / "kept");

  SECTION("the same folder; what it was resumed from is never removed") {
    fit({.n_batches = 8, .ckpt_path = folder / "a/step=4.ckpt"}, 1, {newest(folder / "a", 2, 2)});
    CHECK(names_in(folder / "a") == Names{"step=4.ckpt", "step=6.ckpt", "step=8.ckpt"});
  }
  SECTION("another folder") {
    Scene scene{.n_batches = 8, .ckpt_path = folder / "a/step=4.ckpt"};
    const auto callback = newest(folder / "b", 2, 2);
    fit(scene, 1, {callback});
    CHECK(names_in(folder / "a") == Names{"step=2.ckpt", "step=4.ckpt"});
    CHECK(names_in(folder / "b") == Names{"step=6.ckpt", "step=8.ckpt"});
    CHECK(has_line(scene, "The dirpath has changed from '" + fs::canonical(folder / "a").string() + "' to '" +
                              callback->dirpath() + "'"));
  }
  SECTION("the same run in a folder that was moved") {
    fs::rename(folder / "a", folder / "b");
    Scene scene{.n_batches = 8, .ckpt_path = folder / "b/step=4.ckpt"};
    fit(scene, 1, {newest(folder / "b", 2, 2)});
    CHECK(names_in(folder / "b") == Names{"step=4.ckpt", "step=6.ckpt", "step=8.ckpt"});
    CHECK_FALSE(has_line(scene, "The dirpath has changed"));
  }
  SECTION("a checkpoint that was copied among another run's") {
    fs::copy_file(folder / "a/step=4.ckpt", folder / "other.ckpt");
    fs::create_directory(folder / "b");
    std::ofstream(folder / "b/step=1.ckpt") << "another run's";
    fit({.n_batches = 8, .ckpt_path = folder / "other.ckpt"}, 1, {newest(folder / "b", 2, 1)});
    CHECK(names_in(folder / "b") == Names{"step=1.ckpt", "step=8.ckpt"});
  }
  CHECK(names_in(folder / "kept") == Names{"step=2.ckpt", "step=4.ckpt"});
}

TEST_CASE("A run that goes on in another folder leaves the old best and the old last", "[model_checkpoint]") {
  const TempFolder folder;
  const auto callback = [&](const std::string& name) {
    return model_checkpoint({.dirpath = folder / name, .filename = "{epoch}", .save_last = true});
  };
  fit({}, 2, {callback("a")});
  const auto resumed = callback("b");
  fit({.ckpt_path = folder / "a/last.ckpt"}, 3, {resumed});
  CHECK(names_in(folder / "a") == Names{"epoch=1.ckpt", "last.ckpt"});
  CHECK(names_in(folder / "b") == Names{"epoch=2.ckpt", "last.ckpt"});
  CHECK(resumed->best_model_path() == resumed->dirpath() + "/epoch=2.ckpt");
}

TEST_CASE("A resumed run that saves nothing else saves `last` at its end", "[model_checkpoint]") {
  const TempFolder folder;
  const SaveLast kind = GENERATE(SaveLast(true), SaveLast("link"));
  const auto callback = [&] {
    return model_checkpoint(
        {.dirpath = folder.path(), .filename = "{epoch}", .save_last = kind, .save_top_k = -1, .every_n_epochs = 2});
  };
  fit({}, 2, {callback()});
  Scene done{.ckpt_path = folder / "last.ckpt"};
  fit(done, 2, {callback()});
  CHECK(done.io->n_saves == 0);
  fit({.ckpt_path = folder / "last.ckpt"}, 3, {callback()});
  CHECK(names_in(folder.path()) == Names{"epoch=1.ckpt", "last.ckpt"});
  CHECK(load(folder / "last.ckpt").at("global_step").as<int>() == 3);
  CHECK(load(folder / "epoch=1.ckpt").at("global_step").as<int>() == 2);
}

TEST_CASE("With k = 1 the checkpoint that was resumed from stays, even through a link", "[model_checkpoint]") {
  const TempFolder folder;
  fit({.n_batches = 4}, 1, {newest(folder.path(), 2, 1, "link")});
  CHECK(names_in(folder.path()) == Names{"last.ckpt", "step=4.ckpt"});
  const auto callback = newest(folder.path(), 2, 1, "link");
  fit({.n_batches = 8, .ckpt_path = folder / "last.ckpt"}, 1, {callback});
  CHECK(names_in(folder.path()) == Names{"last.ckpt", "step=4.ckpt", "step=8.ckpt"});
  CHECK(fs::read_symlink(folder / "last.ckpt") == "step=8.ckpt");
  // The next one goes on from the newer, so that many resumes do not leave as many files.
  fit({.n_batches = 12, .ckpt_path = folder / "last.ckpt"}, 1, {newest(folder.path(), 2, 1, "link")});
  CHECK(names_in(folder.path()) == Names{"last.ckpt", "step=12.ckpt", "step=8.ckpt"});
}

TEST_CASE("A checkpoint saved elsewhere knows the run's folder too", "[model_checkpoint]") {
  const TempFolder folder;
  const auto run = [&](const std::string& root, std::int64_t n_epochs, std::optional<std::string> ckpt_path) {
    const auto callback =
        model_checkpoint({.dirpath = root + "/checkpoints", .filename = "{epoch}", .monitor = "m", .save_top_k = 2});
    ScriptedNet net({3, 2, 1, 0});
    Trainer trainer({.max_epochs = n_epochs,
                     .enable_progress_bar = false,
                     .print = [](std::string_view) {},
                     .callbacks = {callback}});
    trainer.fit(net, batches(1), std::nullopt, ckpt_path);
    trainer.save_checkpoint(root + "/final.ckpt");
    return callback;
  };
  run(folder / "a", 2, std::nullopt);
  CHECK(state_in(folder / "a/final.ckpt").at("dirpath").as<std::string>() == "checkpoints");
  CHECK(to_string(state_in(folder / "a/final.ckpt")).find(folder.path()) == std::string::npos);
  fs::rename(folder / "a", folder / "b");
  const auto callback = run(folder / "b", 4, folder / "b/final.ckpt");
  CHECK(names_in(folder / "b/checkpoints") == Names{"epoch=2.ckpt", "epoch=3.ckpt"});
  CHECK(callback->best_model_score() == 0);
}

TEST_CASE("State goes from one ModelCheckpoint to another", "[model_checkpoint]") {
  const TempFolder folder;
  const ModelCheckpointOptions options{
      .dirpath = folder / "a", .filename = "{epoch}", .monitor = "m", .save_last = true, .save_top_k = 2};
  const auto callback = model_checkpoint(options);
  fit({.script = {3, 2, 1}}, 3, {callback});
  ModelCheckpoint same(options);
  same.load_state_dict(callback->state_dict());
  CHECK(same.state_dict() == Value(callback->state_dict()));

  ModelCheckpointOptions changed = options;
  changed.dirpath = folder / "b";
  ModelCheckpoint other(changed);
  other.load_state_dict(callback->state_dict());
  CHECK(other.best_model_path() == callback->best_model_path());
  CHECK(other.best_k_models().empty());
  CHECK(other.last_model_path() == "");
  CHECK_FALSE(other.best_model_score().has_value());
}

TEST_CASE("A state that Lightning wrote is taken, in a moved folder too", "[model_checkpoint]") {
  const TempFolder folder;
  const std::string real = fs::canonical(folder.path()).string();
  const auto state_of = [](const std::string& dirpath) {
    return Dict{
        {"monitor", "m"},
        {"best_model_score", torch::tensor(1.5f)},
        {"best_model_path", dirpath + "/a.ckpt"},
        {"current_score", torch::tensor(2.5f)},
        {"dirpath", dirpath},
        {"best_k_models", Dict{{dirpath + "/a.ckpt", torch::tensor(1.5f)}, {dirpath + "/b.ckpt", torch::tensor(2.5f)}}},
        {"kth_best_model_path", dirpath + "/b.ckpt"},
        {"kth_value", torch::tensor(2.5f)},
        {"last_model_path", dirpath + "/last.ckpt"}};
  };
  ModelCheckpoint callback({.dirpath = real, .monitor = "m", .save_top_k = 2});
  callback.load_state_dict(state_of(real));
  CHECK(callback.best_k_models() == std::map<std::string, double>{{real + "/a.ckpt", 1.5}, {real + "/b.ckpt", 2.5}});
  CHECK(callback.kth_best_model_path() == real + "/b.ckpt");
  CHECK(callback.last_model_path() == real + "/last.ckpt");

  ModelCheckpoint moved({.dirpath = real, .monitor = "m", .save_top_k = 2});
  moved.load_state_dict(state_of("/nowhere/run"));
  CHECK(moved.best_k_models().empty());
  CHECK(moved.best_model_path() == "/nowhere/run/a.ckpt");
}

TEST_CASE("What a kill left to be removed is removed by the resumed run, and nothing else", "[model_checkpoint]") {
  const TempFolder killed;
  fit({.n_batches = 4}, 1, {newest(killed.path(), 2, 1)});
  CHECK(names_in(killed.path()) == Names{"step=4.ckpt"});
  CHECK(state_in(killed / "step=4.ckpt").at("ckptio").at("superseded").as<std::vector<std::string>>() ==
        Names{"step=2.ckpt"});
  std::ofstream(killed / "step=2.ckpt") << "not removed yet";
  SECTION("older than the checkpoint") {
    fs::last_write_time(killed / "step=2.ckpt", fs::last_write_time(killed / "step=4.ckpt") - 1s);
    fit({.n_batches = 5, .ckpt_path = killed / "step=4.ckpt"}, 1, {newest(killed.path(), 2, 1)});
    CHECK(names_in(killed.path()) == Names{"step=4.ckpt"});
  }
  SECTION("newer: somebody else's") {
    fs::last_write_time(killed / "step=2.ckpt", fs::last_write_time(killed / "step=4.ckpt") + 1s);
    fit({.n_batches = 5, .ckpt_path = killed / "step=4.ckpt"}, 1, {newest(killed.path(), 2, 1)});
    CHECK(names_in(killed.path()) == Names{"step=2.ckpt", "step=4.ckpt"});
  }
}

TEST_CASE("A checkpoint that a user removed no longer counts among the best", "[model_checkpoint]") {
  const TempFolder folder;
  const auto callback = [&] {
    return model_checkpoint({.dirpath = folder.path(), .filename = "{epoch}", .monitor = "m", .save_top_k = 2});
  };
  fit({.script = {1, 2}}, 2, {callback()});
  fs::remove(folder / "epoch=0.ckpt");
  const auto resumed = callback();
  fit({.script = {1, 2, 3}, .ckpt_path = folder / "epoch=1.ckpt"}, 3, {resumed});
  CHECK(names_in(folder.path()) == Names{"epoch=1.ckpt", "epoch=2.ckpt"});
  CHECK(fs::path(resumed->best_model_path()).filename() == "epoch=1.ckpt");
}

// ----------------------------------------------------------------------------------------------- exceptions, signals

TEST_CASE("save_on_exception saves the step that an exception ended, unless it is saved", "[model_checkpoint]") {
  const TempFolder folder;
  const bool enabled = GENERATE(true, false);
  const std::int64_t crash_after = GENERATE(3, 4);
  std::int64_t done = 0;
  Scene scene{.n_batches = 8, .on_step = throw_at(crash_after, done)};
  const auto callback = model_checkpoint({.dirpath = folder.path(),
                                          .filename = "{step}",
                                          .save_last = true,
                                          .save_top_k = -1,
                                          .save_on_exception = enabled,
                                          .every_n_train_steps = 2});
  CHECK_THROWS_WITH(fit(scene, 1, {callback}), "trouble");
  Names names{"last.ckpt", "step=2.ckpt"};
  if (crash_after == 4) names.push_back("step=4.ckpt");
  if (crash_after == 3 && enabled) names.push_back("step=3.ckpt");
  CHECK(names_in(folder.path()) == names);
  CHECK(load(folder / "last.ckpt").at("global_step").as<int>() == (crash_after == 3 && !enabled ? 2 : crash_after));
  CHECK(has_line(scene, "was raised with message: trouble, saved checkpoint to") == (crash_after == 3 && enabled));
}

TEST_CASE("What is saved on an exception takes no name of the best", "[model_checkpoint]") {
  const TempFolder folder;
  std::int64_t done = 0;
  const auto callback =
      model_checkpoint({.dirpath = folder.path(), .filename = "best", .monitor = "m", .save_on_exception = true});
  CHECK_THROWS(fit({.script = {1, 2}, .n_batches = 2, .on_step = throw_at(3, done)}, 2, {callback}));
  CHECK(names_in(folder.path()) == Names{"best-v1.ckpt", "best.ckpt"});
  CHECK(load(folder / "best.ckpt").at("global_step").as<int>() == 2);
  CHECK(load(folder / "best-v1.ckpt").at("global_step").as<int>() == 3);
}

TEST_CASE("A hook that raises anywhere in training yields the file", "[model_checkpoint]") {
  struct Trouble : Callback {
    explicit Trouble(std::string where) : where(std::move(where)) {}
    void at(Trainer& trainer, const char* here) {
      if (where == here && trainer.global_step() >= 3) throw std::runtime_error(where);
    }
    void on_train_batch_start(Trainer& t, TrainingModule&, std::int64_t) override { at(t, "batch start"); }
    void on_train_batch_end(Trainer& t, TrainingModule&, const at::Tensor&, std::int64_t) override {
      at(t, "batch end");
    }
    void on_before_zero_grad(Trainer& t, TrainingModule&) override { at(t, "zero grad"); }
    void on_before_backward(Trainer& t, TrainingModule&, const at::Tensor&) override { at(t, "backward"); }
    void on_after_backward(Trainer& t, TrainingModule&) override { at(t, "after backward"); }
    void on_before_optimizer_step(Trainer& t, TrainingModule&) override { at(t, "optimizer step"); }
    void on_train_epoch_start(Trainer& t, TrainingModule&) override { at(t, "epoch start"); }
    void on_train_epoch_end(Trainer& t, TrainingModule&) override { at(t, "epoch end"); }
    void on_validation_start(Trainer& t, TrainingModule&) override { at(t, "validation start"); }
    void on_validation_batch_start(Trainer& t, TrainingModule&, std::int64_t) override { at(t, "validation batch"); }
    void on_validation_batch_end(Trainer& t, TrainingModule&, std::int64_t) override { at(t, "validation batch end"); }
    void on_validation_epoch_end(Trainer& t, TrainingModule&) override { at(t, "validation epoch end"); }
    void on_validation_end(Trainer& t, TrainingModule&) override { at(t, "validation end"); }
    std::string where;
  };
  for (const char* where : {"batch start", "batch end", "zero grad", "backward", "after backward", "optimizer step",
                            "epoch start", "epoch end", "validation start", "validation batch", "validation batch end",
                            "validation epoch end", "validation end"}) {
    INFO(where);
    const TempFolder folder;
    const auto callback = model_checkpoint(
        {.dirpath = folder.path(), .filename = "saved", .save_on_exception = true, .every_n_epochs = 5});
    CHECK_THROWS_WITH(fit({.n_batches = 3, .n_val_batches = 1}, 2, {std::make_shared<Trouble>(where), callback}),
                      where);
    CHECK(names_in(folder.path()) == Names{"saved.ckpt"});
  }
}

TEST_CASE("A hook that raises after the last step yields the file too", "[model_checkpoint]") {
  struct Trouble : Callback {
    void on_fit_end(Trainer&, TrainingModule&) override { throw std::runtime_error("trouble"); }
  };
  struct TroubledNet : ScriptedNet {
    void on_train_end() override { throw std::runtime_error("trouble"); }
  };
  const TempFolder folder;
  const auto callback =
      model_checkpoint({.dirpath = folder.path(), .filename = "saved", .save_on_exception = true, .every_n_epochs = 5});
  SECTION("of a callback") { CHECK_THROWS_WITH(fit({}, 2, {std::make_shared<Trouble>(), callback}), "trouble"); }
  SECTION("of the module") {
    TroubledNet net;
    Trainer trainer({.max_epochs = 2, .enable_progress_bar = false, .callbacks = {callback}});
    CHECK_THROWS_WITH(trainer.fit(net, batches(1)), "trouble");
  }
  CHECK(names_in(folder.path()) == Names{"saved.ckpt"});
}

TEST_CASE("A signal saves, whatever save_on_exception says", "[model_checkpoint]") {
  const TempFolder folder;
  const int signal = GENERATE(SIGTERM, SIGINT);
  std::int64_t done = 0;
  const auto callback =
      model_checkpoint({.dirpath = folder.path(), .filename = "{step}", .save_last = "link", .every_n_train_steps = 2});
  fit({.n_batches = 8, .on_step = raise_at(3, done, signal)}, 1, {callback});
  CHECK(names_in(folder.path()) == Names{"last.ckpt", "step=3.ckpt"});
  CHECK(fs::read_symlink(folder / "last.ckpt") == "step=3.ckpt");
  done = 0;
  fit({.script = {1}, .n_batches = 8, .on_step = raise_at(3, done, signal)}, 1,
      {model_checkpoint(
          {.dirpath = folder / "monitored", .filename = "{step}", .monitor = "m", .every_n_train_steps = 2})});
  CHECK(names_in(folder / "monitored") == Names{"step=2.ckpt", "step=3.ckpt"});  // not for its score

  const TempFolder saved;
  done = 0;
  fit({.n_batches = 8, .on_step = raise_at(4, done, signal)}, 1,
      {model_checkpoint({.dirpath = saved.path(), .filename = "{step}", .save_top_k = -1, .every_n_train_steps = 2})});
  CHECK(names_in(saved.path()) == Names{"step=2.ckpt", "step=4.ckpt"});
}

TEST_CASE("OnExceptionCheckpoint saves, and the same line again goes on where it ended", "[model_checkpoint]") {
  const TempFolder folder;
  CHECK_THROWS_AS(OnExceptionCheckpoint(folder.path(), ""), ValueError);
  const auto make = [&] { return std::make_shared<OnExceptionCheckpoint>(folder.path()); };
  CHECK(make()->ckpt_path() == folder / "on_exception.ckpt");
  std::int64_t done = 0;
  CHECK_THROWS_WITH(fit({.n_batches = 4, .on_step = throw_at(3, done)}, 2, {make()}), "trouble");
  CHECK(names_in(folder.path()) == Names{"on_exception.ckpt"});

  std::vector<std::int64_t> seen;
  Scene scene{.n_batches = 4, .on_step = [&](std::int64_t batch_idx) { seen.push_back(batch_idx); }};
  fit(scene, 2, {make()});
  CHECK(seen == std::vector<std::int64_t>{3, 0, 1, 2, 3});
  CHECK(scene.io->loaded == folder / "on_exception.ckpt");
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("A start that fails does not touch the checkpoint of an exception", "[model_checkpoint]") {
  const TempFolder folder;
  std::int64_t done = 0;
  CHECK_THROWS(
      fit({.n_batches = 4, .on_step = throw_at(3, done)}, 2, {std::make_shared<OnExceptionCheckpoint>(folder.path())}));
  struct BadStart : Callback {
    void on_fit_start(Trainer&, TrainingModule&) override { throw std::runtime_error("bad start"); }
  };
  Scene scene{.n_batches = 4};
  CHECK_THROWS_WITH(
      fit(scene, 2, {std::make_shared<BadStart>(), std::make_shared<OnExceptionCheckpoint>(folder.path())}),
      "bad start");
  CHECK(scene.io->n_saves == 0);
  CHECK(names_in(folder.path()) == Names{"on_exception.ckpt"});
}

TEST_CASE("OnExceptionCheckpoint keeps what a signal made it save", "[model_checkpoint]") {
  const TempFolder folder;
  std::int64_t done = 0;
  fit({.n_batches = 4, .on_step = raise_at(2, done, SIGTERM)}, 1,
      {std::make_shared<OnExceptionCheckpoint>(folder.path(), "stopped")});
  CHECK(names_in(folder.path()) == Names{"stopped.ckpt"});
  CHECK(load(folder / "stopped.ckpt").at("global_step").as<int>() == 2);
}

// ------------------------------------------------------------------------------------------------------ best and last

TEST_CASE("find_last_checkpoints goes by the beginning of the name", "[model_checkpoint]") {
  struct Row {
    std::string name, extension;
    Names files, found;
  };
  const std::vector<Row> rows{
      {"last", ".ckpt", {}, {}},
      {"any", ".any", {"last"}, {}},
      {"last", ".ckpt", {"last"}, {}},
      {"last", ".ckpt", {"last", "last.ckpt"}, {"last.ckpt"}},
      {"other", ".pth", {"last.ckpt", "other.pth", "another.pth"}, {"other.pth"}},
      {"last", ".ckpt", {"log.txt", "last-v0.ckpt", "last-v1.ckpt"}, {"last-v0.ckpt", "last-v1.ckpt"}},
      {"other", ".pth", {"log.txt", "last.ckpt", "other-v0.pth", "other-v1.pth"}, {"other-v0.pth", "other-v1.pth"}},
      {"last", ".ckpt", {".last.ckpt.1.2.ckptio-tmp", "epoch=1.ckpt"}, {}},
  };
  const Trainer trainer(TrainerOptions{.enable_progress_bar = false});
  for (const Row& row : rows) {
    const TempFolder folder;
    for (const std::string& name : row.files) std::ofstream(folder / name) << name;
    ModelCheckpoint callback({.dirpath = folder.path()});
    callback.CHECKPOINT_NAME_LAST = row.name;
    callback.FILE_EXTENSION = row.extension;
    Names found;
    for (const std::string& path : callback.find_last_checkpoints(trainer)) found.push_back(fs::path(path).filename());
    CHECK(found == row.found);
  }
}

TEST_CASE("ckpt_path \"last\" is the newest there is, or the beginning", "[model_checkpoint]") {
  const TempFolder folder;
  Scene scene{.ckpt_path = "last"};
  const auto callbacks = [&] {
    return std::vector<std::shared_ptr<Callback>>{
        model_checkpoint({.dirpath = folder.path(), .filename = "x", .save_last = true}),
        std::make_shared<OnExceptionCheckpoint>(folder.path())};
  };
  fit(scene, 1, callbacks());
  CHECK(has_line(scene,
                 "`.fit(ckpt_path=\"last\")` is set, but there is no last checkpoint available. No checkpoint "
                 "will be loaded. HINT: Set `ModelCheckpoint(..., save_last=True)`."));
  CHECK(scene.io->loaded == "");
  const auto copy_at = [&](const char* name, std::chrono::seconds age) {
    const std::string path = folder / name;
    if (!fs::exists(path)) fs::copy_file(folder / "last.ckpt", path);
    fs::last_write_time(path, fs::file_time_type::clock::now() - age);
  };
  copy_at("last.ckpt", 30s);
  copy_at("last-v1.ckpt", 20s);
  copy_at("on_exception.ckpt", 10s);
  fit(scene, 1, callbacks());
  CHECK(fs::path(scene.io->loaded).filename() == "on_exception.ckpt");
  CHECK_FALSE(fs::exists(folder / "on_exception.ckpt"));  // resumed from, and ended well
  copy_at("last-v1.ckpt", 20s);
  copy_at("last.ckpt", 30s);
  fit(scene, 1, callbacks());
  CHECK(fs::path(scene.io->loaded).filename() == "last-v1.ckpt");
}

TEST_CASE("ckpt_path \"best\" is the first ModelCheckpoint's", "[model_checkpoint]") {
  const TempFolder folder;
  ScriptedNet net({2, 1, 3});
  Names lines;
  const auto trainer_with = [&](std::vector<std::shared_ptr<Callback>> callbacks) {
    TrainerOptions options{.max_epochs = 3, .enable_progress_bar = false};
    options.print = [&](std::string_view line) { lines.emplace_back(line); };
    options.callbacks = std::move(callbacks);
    return std::make_unique<Trainer>(std::move(options));
  };
  const auto smallest = model_checkpoint({.dirpath = folder / "a", .filename = "{epoch}", .monitor = "m"});
  const auto largest =
      model_checkpoint({.dirpath = folder / "b", .filename = "{epoch}", .monitor = "m", .mode = "max"});
  const auto trainer = trainer_with({smallest, largest});
  CHECK_THROWS_WITH(
      trainer->fit(net, batches(1), std::nullopt, "best"),
      "`.fit(ckpt_path=\"best\")` is set but `ModelCheckpoint` is not configured to save the best model.");
  trainer->fit(net, batches(1));
  lines.clear();
  trainer->test(net, batches(1), "best");
  CHECK(trainer->ckpt_path() == smallest->best_model_path());
  CHECK(fs::path(smallest->best_model_path()).filename() == "epoch=1.ckpt");
  CHECK(fs::path(largest->best_model_path()).filename() == "epoch=2.ckpt");  // saved after the one just loaded
  CHECK(std::ranges::count(lines,
                           "`.test(ckpt_path=\"best\")` is called with Trainer configured with multiple "
                           "`ModelCheckpoint` callbacks. It will use the best checkpoint path from first checkpoint "
                           "callback.") == 1);
  CHECK_THROWS_WITH(trainer_with({})->fit(net, batches(1), std::nullopt, "best"),
                    "`.fit(ckpt_path=\"best\")` is set but `ModelCheckpoint` is not configured.");
  const auto none = trainer_with({model_checkpoint({.dirpath = folder / "c", .save_top_k = 0})});
  none->fit(net, batches(1));
  CHECK_THROWS_AS(none->test(net, batches(1), "best"), ValueError);
}

}  // namespace
}  // namespace ckptio::test
