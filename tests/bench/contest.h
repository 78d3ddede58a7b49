// SPDX-License-Identifier: Apache-2.0
// Times things beside each other, so that whatever else the machine does hits all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ckptio::bench {

double seconds_of(const std::function<void()>& run);

// What is timed, and what goes before and after it outside the clock. Either may be empty.
struct Contender {
  std::string name;
  std::function<double()> run;  // returns the seconds that count
  std::function<void()> before{};
  std::function<void()> after{};
};

struct ContestOptions {
  int n_repeats = 5;
  // So much memory is touched and freed before each run: on a virtual machine whose host takes free pages back, the
  // first to use them again would pay for that.
  std::uint64_t settle_bytes = 0;
  std::function<void()> before_round{};
};

struct Outcome {
  std::vector<double> median_s;  // in the order of the contenders
  // The most memory that was resident during a run of the first contender and its `after`, beyond what was when the
  // contest began. Code that was loaded meanwhile does not count. 0 where the system does not tell.
  std::uint64_t peak_growth_bytes = 0;
};

// Runs all once, then n_repeats times in an order that rotates; then the first once more, to see its memory.
Outcome hold(const std::vector<Contender>& contenders, const ContestOptions& options);

}  // namespace ckptio::bench
