// SPDX-License-Identifier: Apache-2.0
// PeakMemory: what a test had resident at most. Linux alone tells.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace ckptio::test {

inline std::int64_t read_status(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != field) continue;
    std::int64_t kib = 0;
    status >> kib;
    return kib << 10;
  }
  return 0;
}

// How much more memory than at its construction the process had resident at once since then.
class PeakMemory {
 public:
  PeakMemory() {
    std::ofstream("/proc/self/clear_refs") << 5;
    before_ = read_status("VmRSS:");
  }
  std::int64_t bytes() const { return read_status("VmHWM:") - before_; }

 private:
  std::int64_t before_ = 0;
};

inline bool can_measure_memory() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return false;  // their shadow memory counts too
#else
  return read_status("VmHWM:") > 0;
#endif
}

}  // namespace ckptio::test
