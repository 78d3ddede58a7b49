// SPDX-License-Identifier: Apache-2.0
// PlanReader: one ReadPlan on its way out of one file.
//
// The ranges are taken in the file's order. Large ones are cut at multiples of kPartBytes and read straight into their
// destinations; small ones that stand close together are read at once and copied from there. Each chunk's CRC is
// computed while it is in the cache; those of a range's pieces are joined when all have been read.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/io_engine.h"
#include "engine/part_runner.h"

namespace ckptio::detail {

class PlanReader {
 public:
  PlanReader(const RandomAccessFile& file, const ReadPlan& plan);
  void run(PartRunner& runner);

 private:
  // Read by one thread at once: a piece of one range, or several small ranges whole.
  struct Span {
    std::uint64_t begin = 0, end = 0;  // in the file
    std::size_t first = 0, last = 0;   // its ranges, as indices into order_, the last exclusive
    bool is_gathered = false;
    std::uint32_t crc = 0;  // of a piece
  };

  void cut();
  void cut_large(std::size_t position);
  // Returns the position behind those it took.
  std::size_t gather(std::size_t position);
  void pass(PartRunner& runner, bool check, bool deliver);
  void read_piece(Span& span, PartRunner::Buffer& buffer, bool check, bool deliver);
  void read_gathered(const Span& span, PartRunner::Buffer& buffer, bool check, bool deliver);
  void judge();
  const ReadRange& range_at(std::size_t position) const { return plan_.ranges[order_[position]]; }

  const RandomAccessFile& file_;
  const ReadPlan& plan_;
  std::vector<std::size_t> order_;  // indices of ranges by their offsets
  std::vector<Span> spans_;
  std::vector<std::uint32_t> found_;  // CRCs, as the ranges
};

}  // namespace ckptio::detail
