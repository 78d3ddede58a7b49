// SPDX-License-Identifier: Apache-2.0
// Files of LocalStorage that go past the page cache, where the file system of the test's folder lets them.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ckptio/error.h"
#include "ckptio/storage/local_storage.h"
#include "core/system_call_hooks.h"
#include "storage/cached_pages.h"
#include "storage/direct_file.h"
#include "support/catch.h"
#include "support/random_seed.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using namespace ckptio::test;
using ckptio::detail::CachedPages;
using ckptio::detail::kDirectBlockBytes;

namespace {

constexpr std::size_t kBytes = std::size_t{6} << 20;  // large enough

struct Free {
  void operator()(char* data) const { std::free(data); }
};
using Blocks = std::unique_ptr<char[], Free>;

Blocks make_blocks(std::size_t n_bytes) {
  return Blocks(static_cast<char*>(std::aligned_alloc(kDirectBlockBytes, n_bytes)));
}

Blocks random_blocks(std::size_t n_bytes) {
  std::mt19937 random(random_seed());
  Blocks blocks = make_blocks(n_bytes);
  for (std::size_t i = 0; i < n_bytes; ++i) blocks[i] = static_cast<char>(random());
  return blocks;
}

// All of `content` by whole blocks from two threads.
void write_direct(WritableFile& file, const char* content, std::size_t n_bytes) {
  const std::size_t half = n_bytes / 2 / kDirectBlockBytes * kDirectBlockBytes;
  std::thread other([&] { file.write_direct_at(half, content + half, n_bytes - half); });
  file.write_direct_at(0, content, half);
  other.join();
}

// Has none of it in the page cache. False where the system keeps it there all the same.
bool evict(const std::string& path, std::size_t n_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  REQUIRE(::fsync(fd) == 0);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  const auto cached = CachedPages::of(fd, n_bytes);
  ::close(fd);
  return cached && !cached->are_mostly_there(0, n_bytes);
}

}  // namespace

TEST_CASE("DirectIo.WhatIsWrittenPastThePageCacheIsTheFilesContent", "[local]") {
  const TempFolder folder;
  LocalStorage storage;
  const Blocks content = random_blocks(kBytes);
  const auto file = storage.create(folder / "a.pt");
  CHECK(file->direct_block_bytes() == 0);  // it is not known yet how large the file will be
  file->reserve(kBytes + 10);
  if (file->direct_block_bytes() == 0) SUCCEED("the file system writes through the page cache alone");
  if (file->direct_block_bytes() == 0) return;
  CHECK(file->direct_block_bytes() == kDirectBlockBytes);
  write_direct(*file, content.get(), kBytes);
  file->write_at(kBytes, "and an end", 10);
  file->commit();
  const std::string found = read_file(storage, folder / "a.pt");
  CHECK((found == std::string(content.get(), kBytes) + "and an end"));
}

TEST_CASE("DirectIo.OnlyLargeFilesThatAreToBeDurableAreWrittenSo", "[local]") {
  const TempFolder folder;
  const auto block_bytes = [&](LocalStorageOptions options, std::uint64_t n_bytes) {
    const auto file = LocalStorage(options).create(folder / "a.pt");
    file->reserve(n_bytes);
    return file->direct_block_bytes();
  };
  CHECK(block_bytes({}, 100'000) == 0);
  CHECK(block_bytes({.durable = false}, kBytes) == 0);
  CHECK(block_bytes({.direct_io = false}, kBytes) == 0);
}

TEST_CASE("DirectIo.AFileThatIsWrittenInPartIsAsLongAsWhatWasWritten", "[local]") {
  const TempFolder folder;
  LocalStorage storage;
  const Blocks content = random_blocks(kDirectBlockBytes);
  const auto file = storage.create(folder / "a.pt");
  file->reserve(kBytes);
  file->write_direct_at(0, content.get(), kDirectBlockBytes);
  file->commit();
  CHECK((read_file(storage, folder / "a.pt") == std::string(content.get(), kDirectBlockBytes)));
}

TEST_CASE("DirectIo.WhatTheFileSystemRefusesGoesThroughThePageCache", "[local][crash]") {
  const TempFolder folder;
  LocalStorage storage;
  const Blocks content = random_blocks(kBytes);
  const auto file = storage.create(folder / "a.pt");
  file->reserve(kBytes);
  std::atomic<int> n_calls{0};
  SystemCallHook hook([&](const std::string& call) { return call == "pwrite" && n_calls++ == 0 ? EINVAL : 0; });
  file->write_direct_at(0, content.get(), kBytes);
  CHECK(n_calls >= 2);
  file->commit();
  CHECK((read_file(storage, folder / "a.pt") == std::string(content.get(), kBytes)));
}

TEST_CASE("DirectIo.ShortWritesAreContinued", "[local][crash]") {
  const TempFolder folder;
  LocalStorage storage;
  const Blocks content = random_blocks(kBytes);
  for (const std::size_t n_bytes : {std::size_t{1} << 20, std::size_t{100'000}, kDirectBlockBytes - 1}) {
    const auto file = storage.create(folder / "a.pt");
    file->reserve(kBytes);
    ShortWrites short_writes(n_bytes);
    write_direct(*file, content.get(), kBytes);
    file->commit();
    CHECK((read_file(storage, folder / "a.pt") == std::string(content.get(), kBytes)));
  }
}

TEST_CASE("DirectIo.AnErrorOfTheDiskIsAnIoErrorAndTheOldFileStays", "[local][crash]") {
  const TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "a.pt", "old");
  const Blocks content = random_blocks(kBytes);
  {
    const auto file = storage.create(folder / "a.pt");
    file->reserve(kBytes);
    SystemCallHook hook([&](const std::string& call) { return call == "pwrite" ? EIO : 0; });
    CHECK_THROWS_AS(file->write_direct_at(0, content.get(), kBytes), IoError);
    CHECK_THROWS_AS(file->commit(), IoError);
  }
  CHECK(read_file(storage, folder / "a.pt") == "old");
}

TEST_CASE("DirectIo.BytesThatAreNotInThePageCacheAreReadPastIt", "[local]") {
  const TempFolder folder;
  LocalStorage storage;
  const std::string path = folder / "a.pt";
  constexpr std::size_t kOdd = kBytes + 1234;
  const Blocks content = random_blocks(kOdd / kDirectBlockBytes * kDirectBlockBytes + kDirectBlockBytes);
  write_file(storage, path, std::string(content.get(), kOdd));
  CHECK(storage.open(path)->direct_block_bytes(0, kOdd) == 0);  // it was just written
  if (!evict(path, kOdd)) {
    SUCCEED("the system keeps files in the page cache, or does not tell");
    return;
  }
  CHECK(LocalStorage({.direct_io = false}).open(path)->direct_block_bytes(0, kOdd) == 0);
  const auto file = storage.open(path);
  CHECK(file->direct_block_bytes(0, 100) == 0);
  CHECK(file->direct_block_bytes(kOdd, 1 << 20) == 0);
  if (file->direct_block_bytes(0, kOdd) == 0) return;
  // A replaced file is read as it was opened.
  write_file(storage, path, "new");
  const std::size_t n_blocks = kOdd / kDirectBlockBytes + 1, n_bytes = n_blocks * kDirectBlockBytes;
  const Blocks found = make_blocks(n_bytes);
  file->read_direct_at(0, found.get(), n_bytes);
  CHECK((std::string(found.get(), kOdd) == std::string(content.get(), kOdd)));
  std::fill_n(found.get(), n_bytes, '\0');
  file->read_direct_at(kDirectBlockBytes, found.get(), 2 * kDirectBlockBytes);
  CHECK((std::string(found.get(), 2 * kDirectBlockBytes) ==
         std::string(content.get() + kDirectBlockBytes, 2 * kDirectBlockBytes)));
}

TEST_CASE("DirectIo.WhatIsSaidToBeReadSoonIsFetchedMeanwhile", "[local]") {
  const TempFolder folder;
  LocalStorage storage;
  const std::string path = folder / "a.pt";
  write_file(storage, path, std::string(kBytes, 'x'));
  const auto file = storage.open(path);
  CHECK_NOTHROW(file->prefetch(2 * kBytes, 100));
  CHECK_NOTHROW(file->prefetch(~std::uint64_t{0}, 100));
  if (!evict(path, kBytes) || file->direct_block_bytes(0, kBytes) == 0) {
    SUCCEED("the system keeps files in the page cache, or does not tell");
    return;
  }
  for (std::size_t at = 0; at < kBytes; at += 4096) file->prefetch(at, 4096);
  const auto is_there = [&] { return file->direct_block_bytes(0, kBytes) == 0; };
  for (int i = 0; i < 1000 && !is_there(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(is_there());
}
