// SPDX-License-Identifier: Apache-2.0
#include "contest.h"

#include <algorithm>
#include <chrono>

#include "raw_io.h"
#include "resident_memory.h"

namespace ckptio::bench {

namespace {

double run_once(const Contender& contender, std::uint64_t settle_bytes) {
  if (settle_bytes > 0) Memory{settle_bytes};
  if (contender.before) contender.before();
  const double seconds = contender.run();
  if (contender.after) contender.after();
  return seconds;
}

// In a run of its own, because memory that was given back makes it slower.
std::uint64_t peak_growth(const Contender& contender, const ResidentMemory& begin) {
  if (contender.before) contender.before();
  release_free_memory();
  reset_peak_resident();
  const ResidentMemory now = resident_memory();
  contender.run();
  if (contender.after) contender.after();
  const std::uint64_t there = begin.n_bytes - begin.n_file_bytes + now.n_file_bytes;
  const std::uint64_t peak = peak_resident_bytes();
  return peak > there ? peak - there : 0;
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const std::size_t middle = times.size() / 2;
  return times.size() % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
}

}  // namespace

double seconds_of(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Outcome hold(const std::vector<Contender>& contenders, const ContestOptions& options) {
  release_free_memory();
  const ResidentMemory begin = resident_memory();
  for (const Contender& contender : contenders) run_once(contender, options.settle_bytes);
  std::vector<std::vector<double>> times(contenders.size());
  for (int round = 0; round < options.n_repeats; ++round) {
    if (options.before_round) options.before_round();
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      const std::size_t which = (i + static_cast<std::size_t>(round)) % contenders.size();
      times[which].push_back(run_once(contenders[which], options.settle_bytes));
    }
  }
  Outcome outcome;
  for (const std::vector<double>& of_one : times) outcome.median_s.push_back(median(of_one));
  outcome.peak_growth_bytes = peak_growth(contenders.front(), begin);
  return outcome;
}

}  // namespace ckptio::bench
