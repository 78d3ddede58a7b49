// SPDX-License-Identifier: Apache-2.0
// What is left of a zip archive whose directory is lost: walks from local header to local header.
//
// For telling people what a copy of a file would still give; no format reads a file in this way. PyTorch's writer
// gives neither sizes nor checksums in local headers, so a record's end is found by its descriptor. Threads: safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec/byte_source.h"

namespace ckptio::cli {

struct SalvagedRecord {
  std::string name;
  std::uint64_t offset = 0;   // of the data
  std::uint64_t n_bytes = 0;  // in the file
  enum class State { whole, damaged, cut_off, unchecked } state = State::unchecked;
};

// In the order of the file, up to the directory or the end. Nothing if the file does not begin with a record. Memory:
// a few MB and the names.
std::vector<SalvagedRecord> salvage_records(const detail::ByteSource& source);

}  // namespace ckptio::cli
