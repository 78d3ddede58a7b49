// SPDX-License-Identifier: Apache-2.0
// PlanWriter: one WritePlan on its way into one file, part by part.
//
// 1. The file is cut into parts of one size. Each part is put together by itself, by any thread: small pieces in
//    a buffer, large data from where it is, each chunk right after its CRC.
// 2. A tail needs the CRC of its whole record. Where data and tail are not in one part, whoever puts the last piece of
//    the data joins the CRCs of all pieces, and writes the tail.
// 3. Then the end of the file is written.
// A file that takes whole blocks past the system's caches gets each part whole, from a buffer, and what is left of the
// last one with the end of the file; who needs the tail of a record waits there until the pieces before have their
// CRCs. Parts begin in order, so the first of those under way waits for none.
// Without positional writes all parts are put together in order by one thread; no CRC is then missing at its tail.
//
// Threads: write_part() from any, with different parts.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "engine/io_engine.h"
#include "engine/part_runner.h"

namespace ckptio::detail {

class PlanWriter {
 public:
  // Reserves the file's room.
  PlanWriter(WritableFile& file, const WritePlan& plan);
  bool waits_for_disk() const { return block_bytes_ > 0; }
  void run(PartRunner& runner);

 private:
  // The CRC of the bytes of a record that are in one part.
  struct Piece {
    std::uint32_t crc = 0;
    std::uint64_t n_bytes = 0;
  };
  // Of the split records in a part: at most one whose data began before it, and one whose data begins in it.
  struct PartResult {
    Piece of_earlier, of_own;
  };
  class Run;

  std::size_t part_of(std::uint64_t offset) const { return static_cast<std::size_t>(offset >> part_shift_); }
  void write_part(std::size_t part, PartBuffer& buffer);
  void put_together(Run& run);
  void add_head(Run& run, std::size_t index) const;
  void add_data(Run& run, std::size_t index);
  void add_tail(Run& run, std::size_t index) const;
  // Data and tail are in several parts, which are not written in order.
  bool is_split(const WriteRecord& record) const;
  // Where the CRC of a split record's bytes in a part belongs. Threads: records that are two have two places.
  Piece& piece_of(std::size_t index, std::size_t part);
  void add_piece(std::size_t index, std::size_t part, Piece piece);
  void write_split_tail(std::size_t index);
  bool fill_late_tails(Run& run);
  void write_blocks(const Run& run);
  void fail();
  void write_end();
  void put(std::uint64_t offset, const void* data, std::size_t n_bytes);

  WritableFile& file_;
  const WritePlan& plan_;
  const bool in_order_;
  const std::size_t block_bytes_;  // 0: nothing goes past the system's caches
  const std::size_t part_bytes_;   // a power of two
  const int part_shift_;
  std::uint64_t records_end_;
  std::vector<std::uint32_t> crcs_;
  std::vector<PartResult> results_;
  std::vector<std::atomic<std::uint32_t>> n_pieces_left_;  // of split records
  std::mutex late_mutex_;
  std::condition_variable late_;  // a split record has its CRC, or a part failed
  std::vector<bool> has_crc_;     // of split records, where tails are waited for
  bool failed_ = false;
  std::vector<unsigned char> rest_;  // the last bytes of the records that are no whole block
};

}  // namespace ckptio::detail
