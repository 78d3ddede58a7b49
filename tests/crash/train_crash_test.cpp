// SPDX-License-Identifier: Apache-2.0
// A training process that is killed, wherever, and started again ends bit for bit as one that nothing disturbed.
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "support/catch.h"
#include "support/same_bits.h"
#include "support/temp_folder.h"

extern char** environ;

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;

constexpr int kKilled = -SIGKILL;

pid_t start_child(const std::string& folder, const std::string& mishap) {
  std::vector<std::string> arguments{CKPTIO_CRASH_CHILD, folder, mishap};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  REQUIRE(::posix_spawn(&pid, CKPTIO_CRASH_CHILD, nullptr, nullptr, argv.data(), environ) == 0);
  return pid;
}

// The exit code, or minus the signal.
int wait_for(pid_t pid) {
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int run_child(const std::string& folder, const std::string& mishap = "") {
  return wait_for(start_child(folder, mishap));
}

Checkpoint final_checkpoint(const std::string& folder) {
  return *TorchCheckpointIO().load_checkpoint(folder + "/final.ckpt");
}

const Checkpoint& unbroken() {
  static const Checkpoint checkpoint = [] {
    const TempFolder folder;
    REQUIRE(run_child(folder.path()) == 0);
    return final_checkpoint(folder.path());
  }();
  return checkpoint;
}

void check_equals_unbroken(const std::string& folder) {
  CHECK(first_difference(final_checkpoint(folder), unbroken()) == "");
  // What the last start resumed from stays until the next one, which finds nothing else to do.
  REQUIRE(run_child(folder) == 0);
  CHECK(first_difference(final_checkpoint(folder), unbroken()) == "");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder + "/checkpoints")) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  CHECK(names == std::vector<std::string>{"last.ckpt", "step=10.ckpt", "step=12.ckpt"});
}

TEST_CASE("A training process killed after every step, one after the other, ends as an undisturbed one",
          "[trainer][crash]") {
  const TempFolder folder;
  for (int step = 1; step <= 12; ++step) {
    INFO("killed after step " << step);
    REQUIRE(run_child(folder.path(), "step=" + std::to_string(step)) == kKilled);
  }
  REQUIRE(run_child(folder.path()) == 0);
  check_equals_unbroken(folder.path());
}

TEST_CASE("A training process killed within a step ends as an undisturbed one", "[trainer][crash]") {
  const TempFolder folder;
  for (const int step : {1, 4, 6, 11}) {
    INFO("killed within step " << step);
    REQUIRE(run_child(folder.path(), "inside=" + std::to_string(step)) == kKilled);
  }
  REQUIRE(run_child(folder.path()) == 0);
  check_equals_unbroken(folder.path());
}

TEST_CASE("A training process killed anywhere in a save or a removal ends as an undisturbed one", "[trainer][crash]") {
  const auto place = GENERATE("append=1", "append=150", "append=301", "append=502", "append=700", "commit=5",
                              "commit=6", "remove=1", "remove=2", "remove=5");
  INFO("killed at " << place);
  const TempFolder folder;
  REQUIRE(run_child(folder.path(), place) == kKilled);
  REQUIRE(run_child(folder.path()) == 0);
  check_equals_unbroken(folder.path());
}

TEST_CASE("A training process killed from outside at any moment ends as an undisturbed one", "[trainer][crash]") {
  const TempFolder folder;
  int n_killed = 0;
  for (int wait_ms = 150; wait_ms < 10'000; wait_ms += 40) {
    const pid_t pid = start_child(folder.path(), "slow");
    ::usleep(static_cast<useconds_t>(wait_ms) * 1000);
    ::kill(pid, SIGKILL);
    const int result = wait_for(pid);
    if (result == 0) break;
    REQUIRE(result == kKilled);
    ++n_killed;
  }
  CHECK(n_killed > 0);
  check_equals_unbroken(folder.path());
}

}  // namespace
}  // namespace ckptio::test
