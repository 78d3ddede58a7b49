// SPDX-License-Identifier: Apache-2.0
#include "cli/run_tool.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>

namespace ckptio::test {
namespace {

void require(bool success, const char* what) {
  if (!success) throw std::runtime_error(std::string("cannot run the tool: ") + what);
}

// In the child: never returns.
[[noreturn]] void exec_tool(const std::vector<std::string>& arguments, const std::vector<std::string>& environment) {
  for (const std::string& variable : environment) ::putenv(const_cast<char*>(variable.c_str()));
  std::string program = CKPTIO_TOOL;
  std::vector<char*> pointers = {program.data()};
  for (const std::string& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  ::execv(program.c_str(), pointers.data());
  ::_exit(127);
}

// Reads what comes from the files until all are closed at the other end.
void drain(std::vector<std::pair<int, std::string*>> files) {
  while (!files.empty()) {
    std::vector<pollfd> polls;
    for (const auto& [file, text] : files) polls.push_back({file, POLLIN, 0});
    ::poll(polls.data(), polls.size(), -1);
    for (std::size_t i = polls.size(); i-- > 0;) {
      if (polls[i].revents == 0) continue;
      char buffer[65536];
      const ssize_t n = ::read(files[i].first, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {  // a terminal that no one holds any more says EIO
        ::close(files[i].first);
        files.erase(files.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        files[i].second->append(buffer, static_cast<std::size_t>(n));
      }
    }
  }
}

void wait_for(pid_t child, ToolResult& result) {
  int status = 0;
  rusage usage{};
  while (::wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  result.n_resident_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace

ToolResult run_tool(const std::vector<std::string>& arguments, const std::vector<std::string>& environment) {
  int out[2], err[2];
  require(::pipe(out) == 0 && ::pipe(err) == 0, "pipe");
  const pid_t child = ::fork();
  require(child >= 0, "fork");
  if (child == 0) {
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    for (const int file : {out[0], out[1], err[0], err[1]}) ::close(file);
    exec_tool(arguments, environment);
  }
  ::close(out[1]);
  ::close(err[1]);
  ToolResult result;
  drain({{out[0], &result.out}, {err[0], &result.err}});
  wait_for(child, result);
  return result;
}

ToolResult run_tool_on_terminal(const std::vector<std::string>& arguments,
                                const std::vector<std::string>& environment) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  require(terminal >= 0 && ::grantpt(terminal) == 0 && ::unlockpt(terminal) == 0, "posix_openpt");
  const int other_end = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  require(other_end >= 0, "open a terminal");
  const pid_t child = ::fork();
  require(child >= 0, "fork");
  if (child == 0) {
    ::dup2(other_end, STDOUT_FILENO);
    ::dup2(other_end, STDERR_FILENO);
    ::close(terminal);
    ::close(other_end);
    exec_tool(arguments, environment);
  }
  ::close(other_end);
  ToolResult result;
  drain({{terminal, &result.out}});
  wait_for(child, result);
  return result;
}

}  // namespace ckptio::test
