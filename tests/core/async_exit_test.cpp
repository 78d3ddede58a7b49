// SPDX-License-Identifier: Apache-2.0
// What is pending when a process ends is finished first.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <fstream>
#include <iterator>

#include "support/catch.h"
#include "support/temp_folder.h"

extern char** environ;

namespace ckptio::test {
namespace {

std::string read(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Without what a sanitizer notes about threads that end just then.
std::string read_errors(const std::string& path) {
  std::ifstream file(path);
  std::string errors;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("==") || line.find("was not suspended") == std::string::npos) errors += line + "\n";
  }
  return errors;
}

struct Ended {
  int code = 0;
  std::string file, errors;
};

Ended run_child(const std::string& how) {
  const TempFolder folder;
  const std::string file = folder / "file", errors = folder / "errors";
  std::vector<std::string> arguments{CKPTIO_EXIT_CHILD, file, how};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 2, errors.c_str(), O_WRONLY | O_CREAT, 0600);
  pid_t pid = 0;
  REQUIRE(::posix_spawn(&pid, CKPTIO_EXIT_CHILD, &actions, nullptr, argv.data(), environ) == 0);
  ::posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), read(file), read_errors(errors)};
}

TEST_CASE("A save that is pending when the process ends is finished first", "[async]") {
  for (const std::string how : {"return", "exit", "thread", "late", "fork"}) {
    INFO(how);
    const Ended ended = run_child(how);
    CHECK(ended.code == 7);
    CHECK(ended.file == "saved");
    CHECK(ended.errors == "");
  }
}

TEST_CASE("An error that is met as the process ends goes to stderr", "[async]") {
  const Ended ended = run_child("error");
  CHECK(ended.code == 7);
  CHECK(ended.errors == "ckptio: the save of 'run/last.ckpt' failed: no space left\n");
}

TEST_CASE("A save that does not end keeps a process for drain_timeout, and is named on stderr", "[async]") {
  const Ended ended = run_child("stuck");
  CHECK(ended.code == 7);
  CHECK_THAT(ended.errors, ContainsSubstring("gave up after 0.02 s") && ContainsSubstring("'run/last.ckpt'"));
}

TEST_CASE("A save that ends the process does not wait for itself", "[async]") { CHECK(run_child("worker").code == 7); }

}  // namespace
}  // namespace ckptio::test
