// SPDX-License-Identifier: Apache-2.0
// PlanReader: one ReadPlan on its way out of one file.
//
// The ranges are taken in the file's order. Large ones are cut at multiples of a part's size and read straight into
// their destinations; small ones that stand close together are read at once and copied from there. Each chunk's CRC is
// computed while it is in the cache; those of a range's pieces are joined when all have been read.
// What is read once, and sooner past the system's caches, goes by way of a buffer in whole blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/io_engine.h"
#include "engine/part_runner.h"

namespace ckptio::detail {

class PlanReader {
 public:
  PlanReader(const RandomAccessFile& file, const ReadPlan& plan);
  // For bytes that are not in the system's caches, rather than for the processor.
  bool waits_for_disk() const { return waits_for_disk_; }
  void run(PartRunner& runner);

 private:
  // Read by one thread at once: a piece of one range, or several small ranges whole.
  struct Span {
    std::uint64_t begin = 0, end = 0;  // in the file
    std::size_t first = 0, last = 0;   // its ranges, as indices into order_, the last exclusive
    bool is_gathered = false;
    std::uint32_t crc = 0;  // of a piece
  };

  void check_bounds() const;
  void cut();
  void cut_large(std::size_t position);
  // Returns the position behind those it took.
  std::size_t gather(std::size_t position);
  void pass(PartRunner& runner, bool check, bool deliver);
  void read_piece(Span& span, PartBuffer& buffer, bool check, bool deliver);
  void read_gathered(const Span& span, PartBuffer& buffer, bool check, bool deliver);
  bool is_mostly_direct() const;
  std::size_t direct_block_bytes(std::uint64_t begin, std::uint64_t end) const;
  // The span's bytes, in the buffer.
  const unsigned char* read_span(const Span& span, std::size_t block_bytes, PartBuffer& buffer) const;
  void judge();
  const ReadRange& range_at(std::size_t position) const { return plan_.ranges[order_[position]]; }

  const RandomAccessFile& file_;
  const ReadPlan& plan_;
  std::vector<std::size_t> order_;  // indices of ranges by their offsets
  std::vector<Span> spans_;
  std::vector<std::uint32_t> found_;  // CRCs, as the ranges
  bool waits_for_disk_;
  std::size_t part_bytes_;
};

}  // namespace ckptio::detail
