// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>

#include "ckptio/trainer/every_n_train_steps.h"
#include "ckptio/trainer/progress_bar.h"
#include "small_run.h"
#include "support/catch.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

// Two epochs of six steps.
void fit(std::vector<std::shared_ptr<Callback>> callbacks, const std::optional<std::string>& ckpt_path = std::nullopt,
         std::shared_ptr<CheckpointIO> io = std::make_shared<TorchCheckpointIO>()) {
  const auto net = make_net();
  Trainer trainer(quiet(2, std::move(io), std::move(callbacks)));
  trainer.fit(net, make_loader(), make_loader(), ckpt_path);
}

std::shared_ptr<EveryNTrainSteps> saver(const std::string& dirpath, std::int64_t n, std::int64_t keep) {
  return std::make_shared<EveryNTrainSteps>(
      EveryNTrainStepsOptions{.dirpath = dirpath, .every_n_train_steps = n, .save_last_k = keep});
}

TEST_CASE("EveryNTrainSteps saves every n steps and keeps the newest", "[trainer]") {
  const TempFolder folder;
  const std::string dirpath = folder / "checkpoints";
  const auto callback = saver(dirpath, 2, 3);
  fit({callback});
  CHECK(names_in(dirpath) == std::vector<std::string>{"step=10.ckpt", "step=12.ckpt", "step=8.ckpt"});
  CHECK(callback->saved_paths().front() == dirpath + "/step=8.ckpt");
  CHECK(EveryNTrainSteps::last_checkpoint(dirpath) == dirpath + "/step=12.ckpt");
}

TEST_CASE("EveryNTrainSteps goes on in a resumed run, in a moved folder too", "[trainer]") {
  const TempFolder folder;
  fit({saver(folder / "a", 5, 2)});
  CHECK(names_in(folder / "a") == std::vector<std::string>{"step=10.ckpt", "step=5.ckpt"});
  fs::rename(folder / "a", folder / "b");
  fit({saver(folder / "b", 3, 2)}, folder / "b/step=10.ckpt");
  // step=5 was on the list of step=10, so it is this run's to remove.
  CHECK(names_in(folder / "b") == std::vector<std::string>{"step=10.ckpt", "step=12.ckpt"});
}

TEST_CASE("EveryNTrainSteps removes nothing that it did not save", "[trainer]") {
  const TempFolder folder;
  std::ofstream(folder / "step=0.ckpt") << "another run's";
  fit({saver(folder.path(), 1, 1)});
  CHECK(names_in(folder.path()) == std::vector<std::string>{"step=0.ckpt", "step=12.ckpt"});
}

TEST_CASE("A save that fails leaves EveryNTrainSteps as it was", "[trainer]") {
  class FailsAtThird : public CountingIO {
   public:
    void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                         const std::optional<Dict>& options) override {
      if (n_saves == 2) throw IoError("disk full");
      CountingIO::save_checkpoint(checkpoint, path, options);
    }
  };
  const auto io = std::make_shared<FailsAtThird>();
  const auto callback = saver("run", 2, 2);
  CHECK_THROWS_WITH(fit({callback}, std::nullopt, io), "disk full");
  CHECK(callback->saved_paths() == std::vector<std::string>{"run/step=2.ckpt", "run/step=4.ckpt"});
  CHECK(io->n_removes == 0);
}

TEST_CASE("EveryNTrainSteps names files as told, in the Trainer's folder where it has none of its own", "[trainer]") {
  const TempFolder folder;
  const auto callback = std::make_shared<EveryNTrainSteps>(
      EveryNTrainStepsOptions{.filename = "{epoch}-{step}", .every_n_train_steps = 6, .verbose = true});
  TrainerOptions options = quiet(2, nullptr, {callback});
  options.default_root_dir = folder.path();
  std::vector<std::string> printed;
  options.print = [&](std::string_view line) { printed.emplace_back(line); };
  Trainer trainer(options);
  trainer.fit(make_net(), make_loader());
  CHECK(names_in(folder / "checkpoints") == std::vector<std::string>{"0-6.ckpt", "1-12.ckpt"});
  REQUIRE(printed.size() == 2);
  CHECK_THAT(printed[0], StartsWith("saved " + folder.path() + "/checkpoints/0-6.ckpt in ") && EndsWith(" ms"));
}

TEST_CASE("EveryNTrainSteps refuses numbers that make no sense", "[trainer]") {
  CHECK_THROWS_AS(saver("x", 0, 1), MisconfigurationError);
  CHECK_THROWS_AS(saver("x", 1, 0), MisconfigurationError);
  CHECK_THROWS_AS(saver("x", 1, -2), MisconfigurationError);
  CHECK_NOTHROW(saver("x", 1, -1));
}

TEST_CASE("The last checkpoint of a folder is the one written last", "[trainer]") {
  const TempFolder folder;
  CHECK(EveryNTrainSteps::last_checkpoint(folder / "nowhere") == std::nullopt);
  CHECK(EveryNTrainSteps::last_checkpoint(folder.path()) == std::nullopt);
  const auto now = fs::file_time_type::clock::now();
  const auto write = [&](const std::string& name, int seconds_ago) {
    std::ofstream(folder / name) << "x";
    fs::last_write_time(folder / name, now - std::chrono::seconds(seconds_ago));
  };
  write("step=50.ckpt", 30);
  write("step=9.ckpt", 10);
  write("step=10.ckpt", 10);  // written in the same tick
  write("step=99.ckpt.123.1.ckptio-tmp", 0);
  write("notes.txt", 0);
  CHECK(EveryNTrainSteps::last_checkpoint(folder.path()) == folder / "step=10.ckpt");
}

std::string shown_by(bool terminal) {
  std::ostringstream out;
  const auto bar =
      std::make_shared<ProgressBar>(ProgressBarOptions{.terminal = terminal, .out = &out, .refresh_interval_ms = 0});
  Trainer trainer(quiet(2, nullptr, {bar}));
  trainer.fit(make_net(), make_loader(), make_loader());
  return out.str();
}

TEST_CASE("The progress bar is a line per epoch where there is no terminal", "[trainer]") {
  const std::string shown = shown_by(false);
  CHECK(std::ranges::count(shown, '\n') == 2);
  CHECK_THAT(shown, StartsWith("epoch 0: 6 batches in ") && ContainsSubstring("\nepoch 1: 6 batches in ") &&
                        ContainsSubstring("global step 12"));
  CHECK(shown.find('\r') == std::string::npos);
}

TEST_CASE("The progress bar is a bar on a terminal", "[trainer]") {
  const std::string shown = shown_by(true);
  CHECK_THAT(shown,
             ContainsSubstring(
                 "\r\x1b[2KEpoch 0  [...###..................]  3  ") &&  // the first epoch's length is not known yet
                 ContainsSubstring("\r\x1b[2KEpoch 1  [############............]  3/6  "));
  CHECK(std::ranges::count(shown, '\n') == 2);
}

}  // namespace
}  // namespace ckptio::test
