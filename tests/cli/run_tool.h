// SPDX-License-Identifier: Apache-2.0
// Runs the tool `ckptio` as a user would: in a process of its own, its output in pipes or on a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ckptio::test {

struct ToolResult {
  int code = 0;                        // exit status; minus the number of the signal that ended it
  std::string out, err;                // of a terminal both in `out`
  std::uint64_t n_resident_bytes = 0;  // the most memory it had at one time
};

// `environment`: "NAME=value", beside the tests' own.
ToolResult run_tool(const std::vector<std::string>& arguments, const std::vector<std::string>& environment = {});

// With a terminal as its output.
ToolResult run_tool_on_terminal(const std::vector<std::string>& arguments,
                                const std::vector<std::string>& environment = {});

}  // namespace ckptio::test
