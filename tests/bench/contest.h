// SPDX-License-Identifier: Apache-2.0
// Times things beside each other, so that whatever else the machine does hits all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ckptio::bench {

// What is timed, and what goes before and after it outside the clock. Either may be empty.
struct Contender {
  std::string name;
  std::function<void()> run;
  std::function<void()> before{};
  std::function<void()> after{};
};

struct Timing {
  double median_s = 0;
  std::uint64_t peak_rss_bytes = 0;  // the most during all its runs, whatever the process holds; 0 where unknown
};

// Runs all once, then `n_repeats` times in an order that rotates, and returns the timings in the order given. Before
// each run `settle_bytes` of memory are touched and freed: on a virtual machine whose host takes free pages back, the
// first to use them again would pay for that.
std::vector<Timing> time_all(const std::vector<Contender>& contenders, int n_repeats, std::uint64_t settle_bytes);

}  // namespace ckptio::bench
