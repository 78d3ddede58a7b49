// SPDX-License-Identifier: Apache-2.0
// What is pending when a program ends is saved. tests/core/async_exit_test.cpp has more, without Torch.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <fstream>
#include <iterator>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "support/catch.h"
#include "support/temp_folder.h"

extern char** environ;

namespace ckptio::test {
namespace {

// The exit code. What the child writes to stderr goes to the file `errors`.
int run_child(const std::string& file, const std::string& how, const std::string& errors) {
  std::vector<std::string> arguments{CKPTIO_ASYNC_EXIT_CHILD, file, how};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 2, errors.c_str(), O_WRONLY | O_CREAT, 0600);
  pid_t pid = 0;
  REQUIRE(::posix_spawn(&pid, CKPTIO_ASYNC_EXIT_CHILD, &actions, nullptr, argv.data(), environ) == 0);
  ::posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST_CASE("What an AsyncCheckpointIO has pending when a program ends is saved", "[decorators]") {
  for (const std::string how : {"return", "exit"}) {
    INFO(how);
    const TempFolder folder;
    CHECK(run_child(folder / "last.ckpt", how, folder / "errors") == 7);
    CHECK(TorchCheckpointIO().load_checkpoint(folder / "last.ckpt")->at("w") == Value(at::zeros({3})));
  }
}

TEST_CASE("An error of a save that a program left pending goes to stderr", "[decorators]") {
  const TempFolder folder;
  std::ofstream(folder / "file") << "no folder";
  CHECK(run_child(folder / "file", "error", folder / "errors") == 7);
  std::ifstream file(folder / "errors");
  const std::string errors{std::istreambuf_iterator<char>(file), {}};
  CHECK_THAT(errors, StartsWith("ckptio: the save of '" + folder.path() + "/file/not/a/folder' failed: "));
}

}  // namespace
}  // namespace ckptio::test
