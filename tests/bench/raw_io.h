// SPDX-License-Identifier: Apache-2.0
// What the machine can do with so many bytes by itself: the limits that saves and loads are measured against.
//
// Files are written and read in parts of 4 MiB by some threads, checksums computed by chunks of 512 KiB that are still
// in the cache. Errors of the system are a std::system_error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ckptio::bench {

struct Bytes {
  char* data = nullptr;
  std::size_t n_bytes = 0;
};

// Memory in huge pages where the system gives them.
class Memory {
 public:
  Memory() = default;
  // Touched: its pages are there.
  explicit Memory(std::size_t n_bytes, bool is_touched = true);
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  ~Memory();
  Bytes bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

// How a write is made to survive a power cut.
enum class Flush : std::uint8_t { none, fdatasync };

// The file's room is set aside before.
void write_file(const std::string& path, const std::vector<Bytes>& content, std::size_t n_threads, Flush flush);

enum class ReadInto : std::uint8_t { memory, memory_and_check, check_only };

// Reads the file's first bytes into `destination`, one range behind the other.
void read_file(const std::string& path, const std::vector<Bytes>& destination, std::size_t n_threads, ReadInto into);

// How bytes go past the page cache (O_DIRECT): in parts of a multiple of 4 KiB, by so many threads.
struct DirectWay {
  std::size_t part_bytes, n_threads;
};
// From and into memory that the threads use again. The write is flushed by fdatasync.
void write_direct(const std::string& path, std::size_t n_bytes, DirectWay way);
void read_direct(const std::string& path, std::size_t n_bytes, DirectWay way);
// One read(2) for each range.
void read_one_by_one(const std::string& path, const std::vector<Bytes>& destination);

void copy(const std::vector<Bytes>& from, char* to, std::size_t n_threads);

void flush(const std::string& path);

// Has the file on the disk, and none of it in the page cache.
void evict(const std::string& path);

// False where the folder's file system refuses O_DIRECT.
bool can_write_directly(const std::string& folder);

}  // namespace ckptio::bench
