// SPDX-License-Identifier: Apache-2.0
#include "resident_memory.h"

#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace ckptio::bench {

namespace {

std::uint64_t status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == field + ":") {
      std::uint64_t kib = 0;
      status >> kib;
      return kib << 10;
    }
    status.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

}  // namespace

ResidentMemory resident_memory() { return {status_bytes("VmRSS"), status_bytes("RssFile")}; }

std::uint64_t peak_resident_bytes() { return status_bytes("VmHWM"); }

void reset_peak_resident() { std::ofstream("/proc/self/clear_refs") << 5; }

void release_free_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace ckptio::bench
