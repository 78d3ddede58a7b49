// SPDX-License-Identifier: Apache-2.0
// PlanReader: one ReadPlan on its way out of one file.
//
// The ranges are taken in the file's order. Large ones are cut at multiples of a part's size and read straight into
// their destinations; small ones that stand close together are read at once and copied from there; what is in a window
// is read into it across all borders of ranges, cut at multiples of a part's size in memory, so that no two threads ask
// for the same huge page. Each chunk's CRC is computed while it is in the cache; those of a range's pieces are joined
// when all have been read.
// What is read once, and sooner past the system's caches, comes in whole blocks by way of a buffer. Blocks that go
// straight into other memory take longer: on a virtual disk, 1 GiB into 12 MiB that are used again 350 ms, and into
// 1 GiB, all of it touched before, 610 ms; the copy out of the buffer is nothing beside that.
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
  // Read by one thread at once: a piece of one range, several ranges that come into the buffer first, or a part of a
  // window.
  struct Span {
    std::uint64_t begin = 0, end = 0;  // in the file
    std::size_t first = 0, last = 0;   // its ranges, as indices into order_, the last exclusive
    bool is_gathered = false;
    const ReadWindow* window = nullptr;
    std::uint32_t crc_of_first = 0, crc_of_last = 0;  // of pieces; CRCs of whole ranges go to found_
  };
  // What a pass does.
  struct Pass {
    bool check = false, deliver = false;
  };

  void check_bounds() const;
  bool is_mostly_direct() const;
  std::size_t direct_block_bytes(std::uint64_t begin, std::uint64_t end) const;

  void cut();
  // Each returns the position behind those it took.
  std::size_t cut_window(std::size_t position, const ReadWindow& window);
  std::size_t cut_run(std::size_t position, std::uint64_t limit);  // up to ranges from `limit` on
  std::size_t cut_large(std::size_t position);
  std::size_t gather(std::size_t position);
  void cut_parts(std::size_t first, std::size_t last, std::uint64_t end, std::uint64_t part_bytes, std::uint64_t ahead,
                 const Span& form);

  void run(PartRunner& runner, Pass pass);
  void read(Span& span, PartBuffer& buffer, Pass pass);
  bool is_wanted(const Span& span, Pass pass) const;
  // Where the span goes as a whole; null: nowhere.
  static unsigned char* memory_of(const Span& span, const ReadRange& first);
  // Bytes of the file, in the buffer, or at `memory` unless that is null.
  const unsigned char* read_chunk(std::uint64_t begin, std::uint64_t end, unsigned char* memory,
                                  PartBuffer& buffer) const;
  // Takes the ranges' pieces out of such bytes, from range `position` on. Returns the first range that is not at its
  // end.
  std::size_t take_pieces(Span& span, std::size_t position, std::uint64_t begin, std::uint64_t end,
                          const unsigned char* bytes, Pass pass);
  std::uint32_t& crc_in(Span& span, std::size_t position);
  void join_pieces(const Span& span);
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
