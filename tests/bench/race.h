// SPDX-License-Identifier: Apache-2.0
// What saves and loads are, and which limit of the machine each is held against.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contest.h"
#include "workload.h"

namespace ckptio::bench {

struct RaceOptions {
  std::string plugin;       // of plugin_names()
  std::string op;           // of op_names()
  std::string folder;       // where files are made, and removed
  std::size_t n_threads{};  // of the plugin and of the limits
};

// save, durable, async_first, async, async_overlap, load, map, inplace, inplace_one_pass, inplace_unverified, cold,
// cold_inplace, cold_inplace_one_pass, partial.
const std::vector<std::string>& op_names();
std::string describe_op(const std::string& op);

struct Result {
  std::uint64_t n_bytes = 0;  // of the tensors that are moved
  double median_s = 0;
  std::string limit;  // the fastest of those tried
  double limit_median_s = 0;
  // The state, and the most that ours held beside it; neither the program's code nor what limits use. 0 where unknown.
  std::uint64_t peak_rss_bytes = 0;
};

// Tensors of `workload` change where the operation restores into them, to what they were.
Result race(const Workload& workload, const RaceOptions& options, const ContestOptions& contest);

}  // namespace ckptio::bench
