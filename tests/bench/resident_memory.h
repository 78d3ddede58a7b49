// SPDX-License-Identifier: Apache-2.0
// What memory of this process is resident, as Linux tells it; 0 elsewhere.
#pragma once

#include <cstdint>

namespace ckptio::bench {

struct ResidentMemory {
  std::uint64_t n_bytes = 0;
  std::uint64_t n_file_bytes = 0;  // of those: of files, code above all
};

ResidentMemory resident_memory();

// The most that was resident since the last reset_peak_resident().
std::uint64_t peak_resident_bytes();
void reset_peak_resident();

// Gives what the allocator keeps for later back to the system.
void release_free_memory();

}  // namespace ckptio::bench
