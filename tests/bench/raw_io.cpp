// SPDX-License-Identifier: Apache-2.0
#include "raw_io.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "async/huge_pages.h"
#include "codec/checksum.h"

namespace ckptio::bench {

namespace {

constexpr std::size_t kPartBytes = std::size_t{4} << 20;
constexpr std::size_t kChunkBytes = std::size_t{512} << 10;
constexpr std::size_t kBlockBytes = 4096;  // what O_DIRECT wants addresses and lengths to be multiples of

[[noreturn]] void throw_system_error(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (fd_ < 0) throw_system_error("open '" + path + "'");
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(fd_); }

  void write(const char* data, std::size_t n_bytes, std::uint64_t offset) const {
    for (std::size_t done = 0; done < n_bytes;) {
      const ::ssize_t n = ::pwrite(fd_, data + done, n_bytes - done, static_cast<::off_t>(offset + done));
      if (n <= 0) throw_system_error("pwrite");
      done += static_cast<std::size_t>(n);
    }
  }

  // Returns how many there were.
  std::size_t read(char* to, std::size_t n_bytes, std::uint64_t offset) const {
    std::size_t done = 0;
    while (done < n_bytes) {
      const ::ssize_t n = ::pread(fd_, to + done, n_bytes - done, static_cast<::off_t>(offset + done));
      if (n < 0) throw_system_error("pread");
      if (n == 0) break;
      done += static_cast<std::size_t>(n);
    }
    return done;
  }

  void reserve(std::size_t n_bytes) const { (void)::fallocate(get(), 0, 0, static_cast<::off_t>(n_bytes)); }

  void flush() const {
    if (::fdatasync(fd_) != 0) throw_system_error("fdatasync");
  }
  int get() const { return fd_; }

 private:
  const int fd_;
};

struct Piece {
  std::uint64_t offset = 0;
  Bytes bytes;
};

// Cuts memory that stands one behind the other in a file into pieces of at most kPartBytes.
std::vector<Piece> cut(const std::vector<Bytes>& content) {
  std::vector<Piece> pieces;
  std::uint64_t offset = 0;
  for (const Bytes& bytes : content) {
    for (std::size_t done = 0; done < bytes.n_bytes; done += kPartBytes) {
      const std::size_t n_now = std::min(kPartBytes, bytes.n_bytes - done);
      pieces.push_back({offset, {bytes.data + done, n_now}});
      offset += n_now;
    }
  }
  return pieces;
}

// Calls body(0..n-1) from some threads. Throws the first error that one of them met.
void in_parallel(std::size_t n, std::size_t n_threads, const std::function<void(std::size_t)>& body) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  const auto work = [&] {
    try {
      for (std::size_t i = next++; i < n; i = next++) body(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < n_threads; ++i) threads.emplace_back(work);
    work();
  }
  if (error) std::rethrow_exception(error);
}

std::size_t total(const std::vector<Bytes>& content) {
  std::size_t sum = 0;
  for (const Bytes& bytes : content) sum += bytes.n_bytes;
  return sum;
}

}  // namespace

Memory::Memory(std::size_t n_bytes, bool is_touched) {
  void* data = ::mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw_system_error("mmap");
  detail::ask_for_huge_pages(data, n_bytes);
  if (is_touched) std::memset(data, 1, n_bytes);
  bytes_ = {static_cast<char*>(data), n_bytes};
}

Memory::Memory(Memory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Memory::~Memory() {
  if (bytes_.data != nullptr) ::munmap(bytes_.data, bytes_.n_bytes);
}

void write_file(const std::string& path, const std::vector<Bytes>& content, std::size_t n_threads, Flush flush) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
  file.reserve(total(content));
  const std::vector<Piece> pieces = cut(content);
  in_parallel(pieces.size(), n_threads,
              [&](std::size_t i) { file.write(pieces[i].bytes.data, pieces[i].bytes.n_bytes, pieces[i].offset); });
  if (flush == Flush::fdatasync) file.flush();
}

void read_file(const std::string& path, const std::vector<Bytes>& destination, std::size_t n_threads, ReadInto into) {
  const Descriptor file(path, O_RDONLY);
  const std::vector<Piece> pieces = cut(destination);
  std::atomic<std::uint32_t> sum{0};  // so that no checksum is left out
  in_parallel(pieces.size(), n_threads, [&](std::size_t i) {
    const Piece& piece = pieces[i];
    if (into == ReadInto::memory) {
      file.read(piece.bytes.data, piece.bytes.n_bytes, piece.offset);
      return;
    }
    thread_local const auto buffer = std::make_unique<char[]>(kChunkBytes);
    std::uint32_t crc = 0;
    for (std::size_t done = 0; done < piece.bytes.n_bytes; done += kChunkBytes) {
      const std::size_t n_now = std::min(kChunkBytes, piece.bytes.n_bytes - done);
      char* to = into == ReadInto::check_only ? buffer.get() : piece.bytes.data + done;
      file.read(to, n_now, piece.offset + done);
      crc = detail::crc32(crc, to, n_now);
    }
    sum += crc;
  });
}

void write_direct(const std::string& path, std::size_t n_bytes, DirectWay way) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT);
  const Memory memory(way.part_bytes);
  file.reserve(n_bytes);
  in_parallel((n_bytes + way.part_bytes - 1) / way.part_bytes, way.n_threads, [&](std::size_t part) {
    const std::size_t n_now = std::min(way.part_bytes, n_bytes - part * way.part_bytes);
    file.write(memory.bytes().data, (n_now + kBlockBytes - 1) / kBlockBytes * kBlockBytes, part * way.part_bytes);
  });
  file.flush();
}

void read_direct(const std::string& path, std::size_t n_bytes, DirectWay way) {
  const Descriptor file(path, O_RDONLY | O_DIRECT);
  const Memory memory(way.n_threads * way.part_bytes);
  std::atomic<std::size_t> next_room{0};
  const std::size_t n_parts = (n_bytes + way.part_bytes - 1) / way.part_bytes;
  std::atomic<std::size_t> next_part{0};
  in_parallel(way.n_threads, way.n_threads, [&](std::size_t) {
    char* const room = memory.bytes().data + next_room++ * way.part_bytes;
    for (std::size_t part = next_part++; part < n_parts; part = next_part++) {
      file.read(room, way.part_bytes, part * way.part_bytes);
    }
  });
}

void read_one_by_one(const std::string& path, const std::vector<Bytes>& destination) {
  const Descriptor file(path, O_RDONLY);
  std::uint64_t offset = 0;
  for (const Bytes& bytes : destination) {
    file.read(bytes.data, bytes.n_bytes, offset);
    offset += bytes.n_bytes;
  }
}

void copy(const std::vector<Bytes>& from, char* to, std::size_t n_threads) {
  const std::vector<Piece> pieces = cut(from);
  in_parallel(pieces.size(), n_threads, [&](std::size_t i) {
    std::memcpy(to + pieces[i].offset, pieces[i].bytes.data, pieces[i].bytes.n_bytes);
  });
}

void flush(const std::string& path) { Descriptor(path, O_RDONLY).flush(); }

void evict(const std::string& path) {
  const Descriptor file(path, O_RDONLY);
  file.flush();
  ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
}

bool can_write_directly(const std::string& folder) {
  const std::string path = folder + "/.ckptio_bench_direct";
  try {
    write_direct(path, kBlockBytes, {kBlockBytes, 1});
  } catch (const std::system_error&) {
    ::unlink(path.c_str());
    return false;
  }
  ::unlink(path.c_str());
  return true;
}

}  // namespace ckptio::bench
