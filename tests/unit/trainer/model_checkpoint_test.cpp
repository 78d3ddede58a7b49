// SPDX-License-Identifier: Apache-2.0
// Which checkpoints ModelCheckpoint saves, under which names, and which it removes.
#include "ckptio/trainer/model_checkpoint.h"

#include <cmath>
#include <fstream>
#include <limits>

#include "async/save_progress.h"
#include "scripted_run.h"
#include "support/catch.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::string message_of(const ModelCheckpointOptions& options) {
  try {
    ModelCheckpoint callback(options);
  } catch (const MisconfigurationError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_CASE("Options that make no sense are refused in Lightning's words", "[model_checkpoint]") {
  CHECK(message_of({.save_top_k = -2}) == "Invalid value for save_top_k=-2. Must be >= -1");
  CHECK(message_of({.every_n_train_steps = -1}) == "Invalid value for every_n_train_steps=-1. Must be >= 0");
  CHECK(message_of({.every_n_epochs = -1}) == "Invalid value for every_n_epochs=-1. Must be >= 0");
  CHECK(message_of({.every_n_train_steps = 1, .every_n_epochs = 1}) ==
        "Combination of parameters every_n_train_steps=1, every_n_epochs=1 and train_time_interval=None should be "
        "mutually exclusive.");
  CHECK(message_of({.every_n_train_steps = 1, .train_time_interval = 1h}) ==
        "Combination of parameters every_n_train_steps=1, every_n_epochs=0 and train_time_interval=1:00:00 should be "
        "mutually exclusive.");
  CHECK(message_of({.save_top_k = 3}) ==
        "ModelCheckpoint(save_top_k=3, monitor=None) is not a valid configuration. No quantity for top_k to track.");
  CHECK(message_of({.mode = "x"}) == "`mode` can be min, max but got x");
  CHECK(message_of({.every_n_train_steps = 0, .train_time_interval = 0s}) == "nothing was thrown");
  CHECK_THROWS_AS(ModelCheckpoint({.save_last = "hard"}), ValueError);
  CHECK_THROWS_AS(fit(Scene{}, 1, {model_checkpoint({.dirpath = "s3://b/run", .save_last = "link"})}), ValueError);
}

TEST_CASE("The state key is Lightning's", "[model_checkpoint]") {
  CHECK(ModelCheckpoint({.monitor = "val_loss"}).state_key() ==
        "ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, "
        "'train_time_interval': None}");
  CHECK(ModelCheckpoint({.mode = "max", .train_time_interval = 90s}).state_key() ==
        "ModelCheckpoint{'monitor': None, 'mode': 'max', 'every_n_train_steps': 0, 'every_n_epochs': 0, "
        "'train_time_interval': datetime.timedelta(seconds=90)}");
  const TempFolder folder;
  const auto one = model_checkpoint({.dirpath = folder.path()}), same = model_checkpoint({.dirpath = folder.path()});
  CHECK_THROWS_AS(fit(Scene{}, 1, {one, same}), Error);
}

TEST_CASE("format_checkpoint_name gives paths", "[model_checkpoint]") {
  ModelCheckpoint plain;
  const Dict metrics{{"epoch", 3}, {"step", 2}, {"acc", torch::tensor(0.1f)}, {"n", torch::tensor(4)}};
  CHECK(plain.format_checkpoint_name(metrics) == "epoch=3-step=2.ckpt");
  CHECK(plain.format_checkpoint_name(metrics, "{epoch:03d}-{acc}") == "epoch=003-acc=0.10000000149011612.ckpt");
  CHECK(plain.format_checkpoint_name(metrics, "{n}") == "n=4.ckpt");
  CHECK(plain.format_checkpoint_name(metrics, std::nullopt, 1) == "epoch=3-step=2-v1.ckpt");
  CHECK(plain.format_checkpoint_name(metrics, std::nullopt, std::nullopt, "test") == "test-epoch=3-step=2.ckpt");
  CHECK_THROWS_AS(plain.format_checkpoint_name({{"epoch", torch::tensor(1.f)}}, "{epoch:d}"), ValueError);

  ModelCheckpoint other({.dirpath = "/run", .filename = "{epoch}{v/x}", .auto_insert_metric_name = false});
  other.FILE_EXTENSION = ".pth";
  other.CHECKPOINT_JOIN_CHAR = "_";
  CHECK(other.format_checkpoint_name({{"epoch", 1}, {"v/x", 0.5}}, "", 2) == "/run/10.5_v2.pth");
  other.CHECKPOINT_EQUALS_CHAR = ":";
  CHECK(ModelCheckpoint({.dirpath = "/run"}).format_checkpoint_name({}) == "/run/epoch=0-step=0.ckpt");
}

TEST_CASE("The folder is chosen by the option, the first logger, or default_root_dir", "[model_checkpoint]") {
  struct FolderLogger : Logger {
    void log_metrics(const std::map<std::string, double>&, std::int64_t) override {}
    std::string save_dir() const override { return folder; }
    std::string name() const override { return "name"; }
    std::string version() const override { return "version_3"; }
    std::string folder;
  };
  const TempFolder folder;
  const std::string real = fs::canonical(folder.path()).string();
  Scene scene{.trainer = {.default_root_dir = folder.path()}};
  const auto by_root = model_checkpoint({});
  fit(scene, 1, {by_root});
  CHECK(by_root->dirpath() == real + "/checkpoints");
  CHECK(names_in(folder.path()) == Names{"checkpoints/epoch=0-step=1.ckpt"});

  const auto logger = std::make_shared<FolderLogger>();
  logger->folder = folder / "logs";
  scene.trainer.loggers = {logger};
  const auto by_logger = model_checkpoint({});
  fit(scene, 1, {by_logger});
  CHECK(by_logger->dirpath() == real + "/logs/name/version_3/checkpoints");
  logger->folder = "";
  const auto by_both = model_checkpoint({});
  fit(scene, 1, {by_both});
  CHECK(by_both->dirpath() == real + "/name/version_3/checkpoints");

  CHECK_FALSE(has_line(scene, "exists and is not empty"));
  fit(scene, 1, {model_checkpoint({.dirpath = by_root->dirpath()})});
  CHECK(has_line(scene, "Checkpoint directory " + real + "/checkpoints exists and is not empty."));
}

TEST_CASE("enable_checkpointing adds a ModelCheckpoint", "[model_checkpoint]") {
  const TempFolder folder;
  fit({.trainer = {.enable_checkpointing = true, .default_root_dir = folder.path()}}, 2, {});
  CHECK(names_in(folder.path()) == Names{"checkpoints/epoch=1-step=2.ckpt"});
  CHECK_THROWS_AS(fit({.trainer = {.enable_checkpointing = false}}, 1, {model_checkpoint({})}), MisconfigurationError);
}

TEST_CASE("The plugin saves, removes and loads exactly what there is", "[model_checkpoint]") {
  const TempFolder folder;
  Scene first;
  fit(first, 2, {model_checkpoint({.dirpath = folder.path(), .save_last = true})});
  CHECK(names_in(folder.path()) == Names{"epoch=1-step=2.ckpt", "last.ckpt"});
  CHECK(first.io->n_saves == 4);
  CHECK(first.io->n_removes == 1);

  Scene again;
  fit(again, 2, {model_checkpoint({.dirpath = folder.path(), .save_last = true})});
  CHECK(names_in(folder.path()) == Names{"epoch=1-step=2-v1.ckpt", "epoch=1-step=2.ckpt", "last-v1.ckpt", "last.ckpt"});
  CHECK(again.io->n_saves == 4);
  CHECK(again.io->n_removes == 1);

  const auto callback = model_checkpoint({.dirpath = folder.path(), .save_last = true});
  Scene resumed{.ckpt_path = folder / "last-v1.ckpt"};
  fit(resumed, 3, {callback});
  CHECK(resumed.io->loaded == folder / "last-v1.ckpt");
  CHECK(callback->last_model_path() == fs::canonical(folder.path()).string() + "/last-v1.ckpt");
}

TEST_CASE("The best k checkpoints of a run stay", "[model_checkpoint]") {
  struct Row {
    std::int64_t k;
    bool save_last;
    Names names;
  };
  const auto row =
      GENERATE(Row{-1, false, {"e0.ckpt", "e1.ckpt", "e2.ckpt", "e3.ckpt", "e4.ckpt"}}, Row{0, false, {}},  //
               Row{1, false, {"e4.ckpt"}},                                                                  //
               Row{2, false, {"e2.ckpt", "e4.ckpt"}}, Row{3, false, {"e2.ckpt", "e3.ckpt", "e4.ckpt"}},
               Row{4, false, {"e1.ckpt", "e2.ckpt", "e3.ckpt", "e4.ckpt"}}, Row{1, true, {"e4.ckpt", "last.ckpt"}},  //
               Row{0, true, {"last.ckpt"}});
  const TempFolder folder;
  const auto callback = model_checkpoint({.dirpath = folder.path(),
                                          .filename = "e{epoch}",
                                          .monitor = "m",
                                          .save_last = row.save_last,
                                          .save_top_k = row.k,
                                          .auto_insert_metric_name = false});
  fit({.script = {10, 9, 2.8, 5, 2.5}}, 5, {callback});
  CHECK(names_in(folder.path()) == row.names);
  if (row.k == 0) return;
  CHECK(fs::path(callback->best_model_path()).filename() == "e4.ckpt");
  CHECK(callback->best_model_score() == 2.5);
  CHECK(callback->current_score() == 2.5);
  callback->to_yaml();
  std::ifstream yaml(folder / "best_k_models.yaml");
  const std::string text{std::istreambuf_iterator<char>(yaml), {}};
  CHECK(std::ranges::count(text, '\n') == std::ssize(callback->best_k_models()));
  CHECK(text.find("\"" + callback->best_model_path() + "\": 2.5\n") != std::string::npos);
}

TEST_CASE("Ties keep the older checkpoint, and NaN is the worst score", "[model_checkpoint]") {
  const TempFolder folder;
  const double nan = std::nan("");
  struct Row {
    std::string mode;
    std::vector<double> script;
    int n_saves;
    double best;
    std::string name;
  };
  const double infinity = std::numeric_limits<double>::infinity();
  const auto row = GENERATE_COPY(
      Row{"min", {1, 1, 1}, 1, 1, "epoch=0.ckpt"}, Row{"max", {nan, 5, 7, 8}, 4, 8, "epoch=3.ckpt"},
      Row{"min", {nan, 8, 7, 5}, 4, 5, "epoch=3.ckpt"}, Row{"min", {nan, nan}, 1, infinity, "epoch=0.ckpt"},
      Row{"max", {nan, nan}, 1, -infinity, "epoch=0.ckpt"});
  const auto callback =
      model_checkpoint({.dirpath = folder.path(), .filename = "{epoch}", .monitor = "m", .mode = row.mode});
  Scene scene{.script = row.script};
  fit(scene, std::ssize(row.script), {callback});
  CHECK(scene.io->n_saves == row.n_saves);
  CHECK(callback->best_model_score() == row.best);
  CHECK(names_in(folder.path()) == Names{row.name});
}

TEST_CASE("every_n_epochs counts epochs", "[model_checkpoint]") {
  const auto [n, names] = GENERATE(
      table<std::int64_t, Names>({{0, {}},
                                  {1, {"epoch=0.ckpt", "epoch=1.ckpt", "epoch=2.ckpt", "epoch=3.ckpt", "epoch=4.ckpt"}},
                                  {2, {"epoch=1.ckpt", "epoch=3.ckpt"}},
                                  {3, {"epoch=2.ckpt"}}}));
  const TempFolder folder;
  fit({}, 5,
      {model_checkpoint({.dirpath = folder.path(), .filename = "{epoch}", .save_top_k = -1, .every_n_epochs = n})});
  CHECK(names_in(folder.path()) == names);
}

TEST_CASE("every_n_train_steps counts optimizer steps", "[model_checkpoint]") {
  const TempFolder folder;
  fit({.n_batches = 64}, 2,
      {model_checkpoint(
          {.dirpath = folder / "a", .filename = "{step:03d}", .save_top_k = -1, .every_n_train_steps = 16})});
  CHECK(names_in(folder / "a") == Names{"step=016.ckpt", "step=032.ckpt", "step=048.ckpt", "step=064.ckpt",
                                        "step=080.ckpt", "step=096.ckpt", "step=112.ckpt", "step=128.ckpt"});
  fit({.trainer = {.accumulate_grad_batches = 2}, .n_batches = 8}, 1,
      {model_checkpoint({.dirpath = folder / "b", .filename = "{step}", .save_top_k = -1, .every_n_train_steps = 2})});
  CHECK(names_in(folder / "b") == Names{"step=2.ckpt", "step=4.ckpt"});
}

TEST_CASE("train_time_interval goes by the Trainer's clock", "[model_checkpoint]") {
  const TempFolder folder;
  auto now = std::chrono::steady_clock::time_point{};
  Scene scene{.n_batches = 64, .on_step = [&](std::int64_t) { now += 7s; }};
  scene.trainer.clock = [&] { return now; };
  fit(scene, 2, {model_checkpoint({.dirpath = folder / "a", .save_top_k = -1, .train_time_interval = 1min})});
  CHECK(names_in(folder / "a").size() == 14);
  fit(scene, 2, {model_checkpoint({.dirpath = folder / "b", .save_top_k = -1, .train_time_interval = 0s})});
  CHECK(names_in(folder / "b").size() == 128);
}

TEST_CASE("`last` is saved with the best, or always", "[model_checkpoint]") {
  const TempFolder folder;
  const bool always = GENERATE(false, true);
  const SaveLast kind = GENERATE(SaveLast(true), SaveLast("link"));
  fit({.script = {1, 2, 3}}, 3,
      {model_checkpoint({.dirpath = folder.path(),
                         .filename = "{epoch}",
                         .monitor = "m",
                         .save_last = kind,
                         .save_last_always = always})});
  CHECK(names_in(folder.path()) == Names{"epoch=0.ckpt", "last.ckpt"});
  CHECK(load(folder / "last.ckpt").at("epoch").as<int>() == (always ? 2 : 0));
  CHECK(load(folder / "epoch=0.ckpt").at("epoch").as<int>() == 0);
  CHECK(fs::is_symlink(folder / "last.ckpt") == (kind.is_link() && !always));
}

TEST_CASE("A link `last` follows the newest checkpoint, and its older names go", "[model_checkpoint]") {
  const TempFolder folder;
  const auto callback =
      model_checkpoint({.dirpath = folder.path(), .filename = "sub/{epoch}", .save_last = "link", .save_top_k = 1});
  callback->CHECKPOINT_NAME_LAST = "last-{epoch}";
  fit({}, 3, {callback});
  CHECK(names_in(folder.path()) == Names{"last-epoch=2.ckpt", "sub/epoch=2.ckpt"});
  CHECK(fs::read_symlink(folder / "last-epoch=2.ckpt") == "sub/epoch=2.ckpt");
}

TEST_CASE("A run that ends within an epoch leaves a checkpoint that goes on there", "[model_checkpoint]") {
  const TempFolder folder;
  fit({.trainer = {.max_steps = 5}, .n_batches = 3}, 4, {model_checkpoint({.dirpath = folder / "a"})});
  CHECK(names_in(folder / "a") == Names{"epoch=1-step=5.ckpt"});
  int n_steps = 0;
  Scene resumed{.n_batches = 3, .ckpt_path = folder / "a/epoch=1-step=5.ckpt", .on_step = [&](auto) { ++n_steps; }};
  fit(resumed, 2, {model_checkpoint({.dirpath = folder / "b"})});
  CHECK(n_steps == 1);
  CHECK(names_in(folder / "b") == Names{"epoch=1-step=6.ckpt"});
  // Not where the epoch's turn is not due, and not with a score of other weights.
  fit({.trainer = {.max_steps = 4}, .n_batches = 3}, 4,
      {model_checkpoint({.dirpath = folder / "c", .every_n_epochs = 3})});
  CHECK(names_in(folder / "c").empty());
  fit({.n_batches = 3}, 1, {model_checkpoint({.dirpath = folder / "d", .every_n_epochs = 2})});
  CHECK(names_in(folder / "d").empty());
  fit({.trainer = {.max_steps = 4}, .script = {1, 0}, .n_batches = 3}, 4,
      {model_checkpoint({.dirpath = folder / "e", .monitor = "m"})});
  CHECK(names_in(folder / "e") == Names{"epoch=0-step=3.ckpt"});
}

TEST_CASE("Without a trigger that fires, `last` is saved at the end", "[model_checkpoint]") {
  const TempFolder folder;
  fit({}, 3, {model_checkpoint({.dirpath = folder / "a", .save_last = true, .every_n_epochs = 5})});
  CHECK(names_in(folder / "a") == Names{"last.ckpt"});
  CHECK(load(folder / "a/last.ckpt").at("global_step").as<int>() == 3);
  fit({.n_batches = 3}, 1,
      {model_checkpoint(
          {.dirpath = folder / "b", .save_last = true, .every_n_train_steps = 2, .save_last_always = true})});
  CHECK(load(folder / "b/last.ckpt").at("global_step").as<int>() == 3);
}

TEST_CASE("Where no epoch is one of the best, `last` has the final weights", "[model_checkpoint]") {
  const TempFolder folder;
  const SaveLast kind = GENERATE(SaveLast(true), SaveLast("link"));
  Scene scene{.trainer = {.check_val_every_n_epoch = 2}, .n_batches = 4, .n_val_batches = 1};
  fit(scene, 3, {model_checkpoint({.dirpath = folder.path(), .save_last = kind, .save_top_k = 0})});
  CHECK(names_in(folder.path()) == Names{"last.ckpt"});
  CHECK(load(folder / "last.ckpt").at("global_step").as<int>() == 12);
  CHECK(scene.io->n_saves == 2);
}

TEST_CASE("A checkpoint holds its own path, its score, and no path of this machine", "[model_checkpoint]") {
  const TempFolder folder;
  fit({.script = {3, 2}}, 2,
      {model_checkpoint(
          {.dirpath = folder / "run", .filename = "{epoch}", .monitor = "m", .save_last = true, .save_top_k = -1})});
  const Dict state = state_in(folder / "run/epoch=1.ckpt");
  CHECK(state.at("best_model_path").as<std::string>() == "epoch=1.ckpt");
  CHECK(state.at("current_score").as<double>() == 2);
  CHECK(state.at("last_model_path").as<std::string>() == "last.ckpt");
  CHECK(state.at("dirpath").as<std::string>() == ".");
  CHECK(state.at("best_k_models") == Value(Dict{{"epoch=0.ckpt", 3.0}, {"epoch=1.ckpt", 2.0}}));
  CHECK(to_string(state).find(folder.path()) == std::string::npos);
  CHECK(state_in(folder / "run/last.ckpt").at("last_model_path").as<std::string>() == "last.ckpt");

  fit({}, 1, {model_checkpoint({.dirpath = folder / "newest"})});
  CHECK(state_in(folder / "newest/epoch=0-step=1.ckpt").at("best_model_path").as<std::string>() ==
        "epoch=0-step=1.ckpt");
}

TEST_CASE("A name that is taken gets a version, unless it is the one that goes", "[model_checkpoint]") {
  const TempFolder folder;
  const auto best = [&](const std::string& name, std::int64_t k, bool versions) {
    return model_checkpoint({.dirpath = folder / name,
                             .filename = "best",
                             .monitor = "m",
                             .save_top_k = k,
                             .enable_version_counter = versions});
  };
  fit({.script = {4, 3, 2, 1}}, 4, {best("two", 2, true)});
  CHECK(names_in(folder / "two") == Names{"best-v1.ckpt", "best.ckpt"});
  fit({.script = {4, 3, 2, 1}}, 4, {best("one", 1, true)});
  CHECK(names_in(folder / "one") == Names{"best.ckpt"});
  fit({.script = {4}}, 1, {best("one", 1, true)});
  CHECK(names_in(folder / "one") == Names{"best-v1.ckpt", "best.ckpt"});
  fit({.script = {4}}, 1, {best("two", 2, false)});
  CHECK(names_in(folder / "two") == Names{"best-v1.ckpt", "best.ckpt"});
}

TEST_CASE("Two callbacks that save one name at one step do not share a file", "[model_checkpoint]") {
  const TempFolder folder;
  fit({.script = {4, 3}}, 2,
      {model_checkpoint({.dirpath = folder.path(), .filename = "x", .monitor = "m"}),
       model_checkpoint({.dirpath = folder.path(), .filename = "x", .monitor = "m", .mode = "max"})});
  CHECK(names_in(folder.path()) == Names{"x-v1.ckpt", "x.ckpt"});
  CHECK(load(folder / "x.ckpt").at("epoch").as<int>() == 1);
  CHECK(load(folder / "x-v1.ckpt").at("epoch").as<int>() == 0);
}

TEST_CASE("Nothing is saved by a sanity check, a fast_dev_run, or outside of fit", "[model_checkpoint]") {
  const TempFolder folder;
  const auto callback = model_checkpoint({.dirpath = folder.path(), .save_last = true, .save_on_exception = true});
  fit({.trainer = {.fast_dev_run = 1}, .n_val_batches = 1}, 1, {callback});
  CHECK(names_in(folder.path()).empty());
  Scene scene{.trainer = {.num_sanity_val_steps = 1}, .n_val_batches = 1};
  fit(scene, 0, {callback});
  CHECK(names_in(folder.path()).empty());
  ScriptedNet net;
  Trainer trainer({.enable_progress_bar = false, .callbacks = {callback}});
  trainer.validate(net, batches(1));
  CHECK(names_in(folder.path()).empty());
}

// ------------------------------------------------------------------------------------------ monitors of validations

TEST_CASE("A step waits for a monitor that only validation gives", "[model_checkpoint]") {
  const TempFolder folder;
  const auto callback = model_checkpoint({.dirpath = folder.path(),
                                          .filename = "{step}-{val}",
                                          .monitor = "val",
                                          .save_top_k = -1,
                                          .every_n_train_steps = 2});
  fit({.val_script = {0.5, 0.25}, .n_batches = 4, .n_val_batches = 1}, 2, {callback});
  // Step 2 has nothing yet; 4 and 8 wait for their own epoch's validation; 6 takes the last known.
  CHECK(names_in(folder.path()) == Names{"step=4-val=0.5.ckpt", "step=6-val=0.5.ckpt", "step=8-val=0.25.ckpt"});
}

TEST_CASE("A step before a validation within the epoch waits for it", "[model_checkpoint]") {
  const TempFolder folder;
  const auto callback = model_checkpoint({.dirpath = folder.path(),
                                          .filename = "{step}-{val}",
                                          .monitor = "val",
                                          .save_top_k = -1,
                                          .every_n_train_steps = 2});
  fit({.trainer = {.val_check_interval = 2}, .val_script = {4, 3, 2, 1}, .n_batches = 4, .n_val_batches = 1}, 2,
      {callback});
  CHECK(names_in(folder.path()) ==
        Names{"step=2-val=4.0.ckpt", "step=4-val=3.0.ckpt", "step=6-val=2.0.ckpt", "step=8-val=1.0.ckpt"});
}

TEST_CASE("A time that is up waits for the monitor as well", "[model_checkpoint]") {
  const TempFolder folder;
  auto now = std::chrono::steady_clock::time_point{};
  Scene scene{.val_script = {0.5}, .n_batches = 4, .n_val_batches = 1, .on_step = [&](std::int64_t) { now += 10s; }};
  scene.trainer.clock = [&] { return now; };
  fit(scene, 1,
      {model_checkpoint(
          {.dirpath = folder.path(), .filename = "{step}", .monitor = "val", .train_time_interval = 15s})});
  CHECK(names_in(folder.path()) == Names{"step=4.ckpt"});
}

TEST_CASE("Epochs end with validation where that runs within them, or not in each", "[model_checkpoint]") {
  const TempFolder folder;
  const auto callback = [&](const std::string& name, std::optional<bool> on_train_epoch_end = {}) {
    return model_checkpoint({.dirpath = folder / name,
                             .filename = "{step}-{val}",
                             .monitor = "val",
                             .save_top_k = -1,
                             .save_on_train_epoch_end = on_train_epoch_end});
  };
  const Scene scene{.val_script = {4, 3, 2, 1}, .n_batches = 4, .n_val_batches = 1};
  Scene within = scene, second = scene, end = scene;
  within.trainer.val_check_interval = 0.5;
  fit(within, 2, {callback("within")});
  CHECK(names_in(folder / "within").size() == 4);
  fit(within, 2, {callback("within, at the end", true)});
  CHECK(names_in(folder / "within, at the end") == Names{"step=4-val=3.0.ckpt", "step=8-val=1.0.ckpt"});
  second.trainer.check_val_every_n_epoch = 2;
  fit(second, 4, {callback("second")});
  CHECK(names_in(folder / "second") == Names{"step=16-val=3.0.ckpt", "step=8-val=4.0.ckpt"});
  fit(end, 2, {callback("end")});
  CHECK(names_in(folder / "end") == Names{"step=4-val=4.0.ckpt", "step=8-val=3.0.ckpt"});
}

TEST_CASE("A monitor that nobody logs is told before validation, and an error after it", "[model_checkpoint]") {
  const TempFolder folder;
  Scene without{.script = {1}};
  fit(without, 2, {model_checkpoint({.dirpath = folder.path(), .monitor = "no"})});
  const std::string text =
      "`ModelCheckpoint(monitor='no')` could not find the monitored key in the returned metrics: ['epoch', 'm', "
      "'step']. HINT: Did you call `log('no', value)`";
  CHECK(std::ranges::count_if(without.lines, [&](const auto& line) { return line.starts_with(text); }) == 1);
  CHECK(names_in(folder.path()).empty());
  Scene with{.n_val_batches = 1};
  CHECK_THROWS_AS(fit(with, 2, {model_checkpoint({.dirpath = folder.path(), .monitor = "no"})}), MisconfigurationError);
}

TEST_CASE("verbose says what is saved", "[model_checkpoint]") {
  const TempFolder folder;
  Scene scene{.script = {0.5, 0.75}, .n_batches = 5};
  const auto callback =
      model_checkpoint({.dirpath = folder.path(), .filename = "{epoch}", .monitor = "m", .verbose = true});
  fit(scene, 2, {callback});
  CHECK(has_line(scene, "Epoch 0, global step 5: 'm' reached 0.50000 (best 0.50000), saving model to '" +
                            callback->best_model_path() + "' as top 1"));
  CHECK(has_line(scene, "Epoch 1, global step 10: 'm' was not in top 1"));
}

TEST_CASE("save_weights_only leaves out what only a resume needs", "[model_checkpoint]") {
  const TempFolder folder;
  fit({}, 1, {model_checkpoint({.dirpath = folder.path(), .filename = "w", .save_weights_only = true})});
  const Checkpoint checkpoint = load(folder / "w.ckpt");
  CHECK(checkpoint.contains("state_dict"));
  CHECK_FALSE(checkpoint.contains("optimizer_states"));
  CHECK_FALSE(checkpoint.contains("callbacks"));
}

// --------------------------------------------------------------------------------------- saves that fail, or take long

TEST_CASE("A save that fails changes neither the files nor what is known of them", "[model_checkpoint]") {
  const TempFolder folder;
  const SaveLast kind = GENERATE(SaveLast(false), SaveLast(true), SaveLast("link"));
  const auto callback = model_checkpoint(
      {.dirpath = folder.path(), .filename = "{epoch}", .monitor = "m", .save_last = kind, .save_top_k = 2});
  Scene scene{.script = {3, 2, 1}};
  Dict before;
  scene.on_step = [&](std::int64_t) { before = callback->state_dict(); };
  const bool has_file = kind && !kind.is_link();
  scene.io->fails_at = has_file ? 4 : 2;  // the third of the best
  CHECK_THROWS_AS(fit(scene, 3, {callback}), IoError);
  CHECK(callback->state_dict() == Value(before));
  CHECK(before.at("best_k_models").size() == 2);
  Names names{"epoch=0.ckpt", "epoch=1.ckpt"};
  if (kind) names.push_back("last.ckpt");
  CHECK(names_in(folder.path()) == names);
  if (kind) CHECK(load(folder / "last.ckpt").at("epoch").as<int>() == 1);
}

TEST_CASE("If only `last` fails, the checkpoint before it counts", "[model_checkpoint]") {
  const TempFolder folder;
  const auto callback = model_checkpoint({.dirpath = folder.path(), .filename = "{epoch}", .save_last = true});
  Scene scene;
  scene.io->fails_at = 3;
  CHECK_THROWS_AS(fit(scene, 2, {callback}), IoError);
  CHECK(names_in(folder.path()) == Names{"epoch=1.ckpt", "last.ckpt"});
  CHECK(fs::path(callback->best_model_path()).filename() == "epoch=1.ckpt");
  CHECK(load(folder / "last.ckpt").at("epoch").as<int>() == 0);
}

// Writes at once, but the file gets its name only when a test, or teardown, lets it, or while it is open.
class GatedIO : public DiskIO {
 public:
  SaveFuture async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                   const std::optional<Dict>& storage_options) override {
    save_checkpoint(checkpoint, path + ".pending", storage_options);
    pending.push_back(std::make_shared<detail::SaveProgress>(path));
    pending.back()->reach(SaveStage::Staged);
    const SaveFuture future(pending.back());
    if (is_open) release();
    return future;
  }
  bool saves_asynchronously() const override { return true; }
  void teardown() override {
    while (!pending.empty()) release();
  }

  void release() {
    const auto progress = pending.front();
    pending.erase(pending.begin());
    fs::rename(progress->path() + ".pending", progress->path());
    progress->reach(SaveStage::Durable);
  }
  void refuse() {
    const auto progress = pending.front();
    pending.erase(pending.begin());
    fs::remove(progress->path() + ".pending");
    progress->fail(std::make_exception_ptr(IoError("told to fail")));
  }

  std::vector<std::shared_ptr<detail::SaveProgress>> pending;
  bool is_open = false;
};

class PathLogger : public Logger {
 public:
  void log_metrics(const std::map<std::string, double>&, std::int64_t) override {}
  void after_save_checkpoint(const std::string& path) override {
    CHECK(fs::exists(path));
    names.push_back(fs::path(path).filename());
  }
  Names names;
};

TEST_CASE("With an asynchronous plugin an older checkpoint stays until the newer is durable", "[model_checkpoint]") {
  const TempFolder folder;
  const auto io = std::make_shared<GatedIO>();
  const auto logger = std::make_shared<PathLogger>();
  const auto callback = model_checkpoint(
      {.dirpath = folder.path(), .filename = "{epoch}", .save_last = "link", .every_n_train_steps = 2});
  Scene scene{.trainer = {.loggers = {logger}, .plugins = {io}}, .n_batches = 2};
  std::int64_t step = 0;
  scene.on_step = [&](std::int64_t) {
    ++step;
    if (step == 3) {  // the first, of step 2, is pending
      CHECK(names_in(folder.path()) == Names{"epoch=0.ckpt.pending"});
      CHECK(logger->names.empty());
      io->release();
    } else if (step == 5) {  // that of step 4 is pending
      CHECK(names_in(folder.path()) == Names{"epoch=0.ckpt", "epoch=1.ckpt.pending", "last.ckpt"});
      CHECK(fs::read_symlink(folder / "last.ckpt") == "epoch=0.ckpt");
      CHECK(logger->names == Names{"epoch=0.ckpt"});
      io->release();
    } else if (step == 6) {
      CHECK(names_in(folder.path()) == Names{"epoch=1.ckpt", "last.ckpt"});
      CHECK(fs::read_symlink(folder / "last.ckpt") == "epoch=1.ckpt");
      io->is_open = true;
    }
  };
  fit(scene, 3, {callback});
  CHECK(names_in(folder.path()) == Names{"epoch=2.ckpt", "last.ckpt"});
  CHECK(logger->names == Names{"epoch=0.ckpt", "epoch=1.ckpt", "epoch=2.ckpt"});
}

TEST_CASE("A background save that fails leaves the older checkpoint, and the run ends by its error",
          "[model_checkpoint]") {
  const TempFolder folder;
  const auto io = std::make_shared<GatedIO>();
  const auto callback = model_checkpoint({.dirpath = folder.path(), .filename = "{epoch}", .save_last = "link"});
  Scene scene{.trainer = {.plugins = {io}}, .n_batches = 2};
  std::int64_t step = 0;
  scene.on_step = [&](std::int64_t) {
    ++step;
    if (step == 3) io->release();
    if (step == 5) io->refuse();
  };
  CHECK_THROWS_AS(fit(scene, 3, {callback}), IoError);
  CHECK(fs::read_symlink(folder / "last.ckpt") == "epoch=0.ckpt");
  CHECK(fs::exists(folder / "epoch=0.ckpt"));
  CHECK_FALSE(fs::exists(folder / "epoch=1.ckpt"));
  CHECK(fs::path(callback->best_model_path()).filename() == "epoch=0.ckpt");
}

}  // namespace
}  // namespace ckptio::test
