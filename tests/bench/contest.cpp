// SPDX-License-Identifier: Apache-2.0
#include "contest.h"

#include <algorithm>
#include <chrono>
#include <fstream>

#include "raw_io.h"

namespace ckptio::bench {

namespace {

void reset_peak_rss() { std::ofstream("/proc/self/clear_refs") << 5; }

std::uint64_t peak_rss() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "VmHWM:") continue;
    std::uint64_t kib = 0;
    status >> kib;
    return kib << 10;
  }
  return 0;
}

double run_once(const Contender& contender, std::uint64_t settle_bytes, std::uint64_t& peak) {
  if (settle_bytes > 0) Memory{settle_bytes};
  if (contender.before) contender.before();
  reset_peak_rss();
  const auto begin = std::chrono::steady_clock::now();
  contender.run();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  peak = std::max(peak, peak_rss());
  if (contender.after) contender.after();
  return time.count();
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const std::size_t middle = times.size() / 2;
  return times.size() % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
}

}  // namespace

std::vector<Timing> time_all(const std::vector<Contender>& contenders, int n_repeats, std::uint64_t settle_bytes) {
  std::vector<Timing> timings(contenders.size());
  std::vector<std::vector<double>> times(contenders.size());
  for (const Contender& contender : contenders) {
    std::uint64_t ignored = 0;
    run_once(contender, settle_bytes, ignored);
  }
  for (int round = 0; round < n_repeats; ++round) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      const std::size_t which = (i + static_cast<std::size_t>(round)) % contenders.size();
      times[which].push_back(run_once(contenders[which], settle_bytes, timings[which].peak_rss_bytes));
    }
  }
  for (std::size_t i = 0; i < contenders.size(); ++i) timings[i].median_s = median(times[i]);
  return timings;
}

}  // namespace ckptio::bench
