// SPDX-License-Identifier: Apache-2.0
// IoEngine: writes and reads whole checkpoints, whose every offset is known before the first byte, with some threads
// side by side and CRC-32s computed while the bytes are in the processor's cache.
//
// What is to be durable, and what is not in the system's caches, goes past them where the place can that
// (direct_block_bytes() of its files): then kDirectThreads threads, unless 1 is asked for, since these wait for the
// disk rather than work.
//
// Formats hand over where bytes stand and where they are; the engine knows no format, no tensor and no LibTorch, and
// never uses LibTorch's threads. A place without positional writes (WritableFile::can_write_at) is written in order by
// one thread. It commits nothing: that is the caller's.
//
// Memory: kPartBytes for each thread, or kDirectBufferBytes for what goes past the caches, kept between calls, beside
// what plans hold.
// Threads: any may call; calls wait for each other. A process that is forked off while another thread is in a call
// cannot use the engine: the copy stays locked. Errors: the first that any thread met is thrown, once all have stopped;
// what others met is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ckptio/storage/storage_backend.h"

namespace ckptio::detail {

// A record of a file to be written: head (name, padding), data, and a tail that may depend on the data's CRC.
struct WriteRecord {
  std::uint64_t begin_offset = 0;  // of the head; the first record's is 0, others begin where the one before ends
  std::uint64_t data_offset = 0;
  std::uint64_t n_bytes = 0;     // of data
  std::uint64_t end_offset = 0;  // behind the tail
  const void* data = nullptr;    // the data, or null: then `fill` makes it
  // Puts the data's bytes from `begin` on into `destination`. Called from several threads, once for each range.
  std::function<void(std::uint64_t begin, void* destination, std::size_t n_bytes)> fill{};
};

struct WritePlan {
  std::vector<WriteRecord> records{};
  // Puts exactly the bytes from begin_offset to data_offset. Null: there are none. Called from several threads, perhaps
  // twice for one record.
  std::function<void(std::size_t index, void* to)> head{};
  // Puts exactly the bytes behind the data. Null: there are none, and no CRC is computed. Called as `head`.
  std::function<void(std::size_t index, std::uint32_t crc, void* to)> tail{};
  // What stands behind the last record, given the CRCs of all (zeros where none are computed).
  std::function<std::string(const std::vector<std::uint32_t>& crcs)> end{};
  std::uint64_t file_size = 0;
};

// Bytes of a file and where they go.
struct ReadRange {
  std::uint64_t offset = 0;
  std::uint64_t n_bytes = 0;
  void* destination = nullptr;         // null: they are only checked
  std::optional<std::uint32_t> crc{};  // what it must be; none: nothing is checked
};

enum class ReadCheck : std::uint8_t {
  none,           // CRCs are not looked at
  while_reading,  // one pass: an error leaves the destinations with anything
  before_reading  // two passes: no destination is touched before every CRC was right
};

// Memory laid out as a part of the file: its byte `offset` belongs at `memory`, and so on. All of it may be written,
// also where no range is. Ranges within whose destinations are at their places there are read together; others within
// are copied from there.
struct ReadWindow {
  std::uint64_t offset = 0;
  std::uint64_t n_bytes = 0;  // may end behind the file's end
  void* memory = nullptr;
};

struct ReadPlan {
  std::vector<ReadRange> ranges{};  // in any order; destinations must not overlap
  // In the order of the file, apart from each other, and to be read nearly whole: what is between ranges is read too.
  std::vector<ReadWindow> windows{};
  ReadCheck check = ReadCheck::before_reading;
  // Throws what the format says of range `index`, whose CRC is `found`. Called on the calling thread, for the first
  // one in the file that is damaged.
  std::function<void(std::size_t index, std::uint32_t found)> report_damage{};
};

struct IoEngineOptions {
  // With the one that calls; 1 starts none, 0 chooses: see default_io_threads().
  std::size_t n_threads = 0;
};

// As many as the processor runs at once, but at most kMaxDefaultThreads.
std::size_t default_io_threads();

class IoEngine {
 public:
  explicit IoEngine(IoEngineOptions options = {});
  IoEngine(const IoEngine&) = delete;
  IoEngine& operator=(const IoEngine&) = delete;
  ~IoEngine();

  // Requires: a file that nothing was written to. Afterwards the whole content is written; commit() is left.
  void write(WritableFile& file, const WritePlan& plan);

  // IoError where a range is outside the file. All of it is read or, on an error, what ReadCheck says.
  void read(const RandomAccessFile& file, const ReadPlan& plan);

  // Calls part(0), ..., part(n_parts - 1) from its threads, each with kRoomBytes of memory.
  using Part = std::function<void(std::size_t index, unsigned char* room)>;
  static constexpr std::size_t kRoomBytes = std::size_t{1} << 20;
  void run(std::size_t n_parts, const Part& part);

  // Ends the threads and frees the memory; the next call makes them anew.
  void release();

  std::size_t n_threads() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ckptio::detail
