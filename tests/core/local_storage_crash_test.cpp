// SPDX-License-Identifier: Apache-2.0
// Saves and removals that are killed, refused and interrupted between any two of their steps. What must hold
// afterwards stands at the top of local_storage.cpp.
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "ckptio/error.h"
#include "ckptio/storage/local_storage.h"
#include "core/child_process.h"
#include "core/system_call_hooks.h"
#include "support/catch.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using namespace ckptio::test;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

std::size_t n_raw_names(const std::string& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// The system calls that `work` makes, without close() of folders, which says nothing.
template <typename Work>
Names calls_of(Work work) {
  Names calls;
  SystemCallHook hook([&](const std::string& call) {
    if (call != "close") calls.push_back(call);
    return 0;
  });
  work();
  return calls;
}

// Runs `work` in a child that is killed before its n-th system call. False once it gets through.
template <typename Work>
bool is_killed_at(int n, Work work) {
  ChildProcess child([&] {
    int calls = 0;
    SystemCallHook hook([&](const std::string&) {
      if (++calls == n) ::kill(::getpid(), SIGKILL);
      return 0;
    });
    work();
    return 0;
  });
  const int code = child.wait();
  REQUIRE((code == 0 || code == -SIGKILL));
  return code != 0;
}

}  // namespace

TEST_CASE("LocalStorage.SavesInTheOrderThatSurvivesAPowerCut", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  CHECK(calls_of([&] { write_file(storage, folder / "a.pt", "x"); }) ==
        Names{"flock", "write", "fsync", "renameat", "fsync"});
  CHECK(calls_of([&] { write_file(storage, folder / "p/q/a.pt", "x"); }) ==
        Names{"mkdir", "fsync", "mkdir", "fsync", "flock", "write", "fsync", "renameat", "fsync"});
  CHECK(calls_of([&] { storage.remove(folder / "p"); }) ==
        Names{"renameat", "fsync", "unlinkat", "unlinkat", "unlinkat"});
  LocalStorage fast({.durable = false});
  CHECK(calls_of([&] { write_file(fast, folder / "p/a.pt", "x"); }) == Names{"mkdir", "flock", "write", "renameat"});
}

TEST_CASE("LocalStorage.ASaveKilledAnywhereLeavesTheOldFileOrTheNewOne", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  const std::string path = folder / "a.pt";
  const std::string old_content(3 << 20, 'o'), new_content(5 << 20, 'n');
  std::set<char> seen;
  int n = 1;
  for (bool killed = true; killed; ++n) {
    write_file(storage, path, old_content);
    killed = is_killed_at(n, [&] {
      const auto file = storage.create(path);
      for (std::size_t i = 0; i < new_content.size(); i += 1 << 19) file->append(new_content.data() + i, 1 << 19);
      file->commit();
    });
    const std::string found = read_file(storage, path);
    CHECK((found == old_content || found == new_content));
    CHECK(storage.list(folder.path()) == Names{"a.pt"});
    seen.insert(found.at(0));
    storage.create(path);
    CHECK(n_raw_names(folder.path()) == 1);
  }
  CHECK(seen == std::set<char>{'o', 'n'});
  CHECK(n > 8);
}

TEST_CASE("LocalStorage.ARemovalKilledAnywhereLeavesTheWholeFolderOrNone", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage({.durable = false});
  const std::string path = folder / "ckpt";
  const Names files = {"a", "b", "sub/c", "sub/d"};
  std::set<bool> seen;
  int n = 1;
  for (bool killed = true; killed; ++n) {
    for (const auto& file : files) write_file(storage, path + "/" + file, "x");
    killed = is_killed_at(n, [&] { storage.remove(path); });
    const bool there = storage.exists(path);
    seen.insert(there);
    for (const auto& file : files) CHECK(storage.exists(path + "/" + file) == there);
    CHECK(storage.list(folder.path()).size() == (there ? 1 : 0));
    storage.remove(path);
    CHECK(n_raw_names(folder.path()) == 0);
  }
  CHECK(seen == std::set<bool>{false, true});
}

TEST_CASE("LocalStorage.AnyRefusedStepKeepsTheOldFileAndIsReported", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "a.pt", "old");
  for (const std::string refused : {"write", "fsync", "close", "renameat"}) {
    const auto file = storage.create(folder / "a.pt");
    file->append("new", 3);
    {
      SystemCallHook hook([&](const std::string& call) { return call == refused ? ENOSPC : 0; });
      INFO(refused);
      try {
        file->commit();
        FAIL("commit() reported success");
      } catch (const IoError& error) {
        CHECK(error.error_number() == ENOSPC);
        CHECK_THAT(error.what(), ContainsSubstring("'" + (folder / "a.pt") + "': No space left on device"));
      }
    }
    CHECK_THROWS_AS(file->commit(), IoError);
    CHECK_THROWS_AS(file->append("x", 1), IoError);
    CHECK(read_file(storage, folder / "a.pt") == "old");
  }
  CHECK(n_raw_names(folder.path()) == 1);
}

TEST_CASE("LocalStorage.AFolderThatCannotBeFlushedIsReportedThoughTheFileIsNew", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "a.pt", "old");
  const auto file = storage.create(folder / "a.pt");
  file->append("new", 3);
  {
    int n_syncs = 0;
    SystemCallHook hook([&](const std::string& call) { return call == "fsync" && ++n_syncs == 2 ? EIO : 0; });
    CHECK_THROWS_WITH(file->commit(), ContainsSubstring("flush the folder of the new, complete"));
  }
  CHECK(read_file(storage, folder / "a.pt") == "new");
}

TEST_CASE("LocalStorage.AFileSystemThatCannotFlushFoldersIsAccepted", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  int n_syncs = 0;
  SystemCallHook hook([&](const std::string& call) { return call == "fsync" && ++n_syncs == 2 ? EINVAL : 0; });
  CHECK_NOTHROW(write_file(storage, folder / "a.pt", "x"));
}

TEST_CASE("LocalStorage.InterruptedAndShortWritesAreContinued", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  std::string content(100'000, ' ');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7);
  {
    int n = 0;
    SystemCallHook hook(
        [&](const std::string& call) { return call != "renameat" && call != "unlinkat" && ++n % 2 == 1 ? EINTR : 0; });
    ShortWrites short_writes(777);
    write_file(storage, folder / "a.pt", content);
  }
  CHECK((read_file(storage, folder / "a.pt") == content));
}

TEST_CASE("LocalStorage.AFileThatIsNotLockedYetMayBeClearedAndIsMadeAgain", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  bool raced = false;
  std::unique_ptr<WritableFile> other;
  std::unique_ptr<WritableFile> file;
  {
    SystemCallHook hook([&](const std::string& call) {
      if (call == "flock" && !raced) {
        raced = true;
        other = storage.create(folder / "a.pt");  // finds the new file without a lock, and clears it
      }
      return 0;
    });
    file = storage.create(folder / "a.pt");
  }
  REQUIRE(raced);
  CHECK(n_raw_names(folder.path()) == 2);
  file->append("file", 4);
  other->append("other", 5);
  file->commit();
  CHECK(read_file(storage, folder / "a.pt") == "file");
  other->commit();
  CHECK(read_file(storage, folder / "a.pt") == "other");
}

TEST_CASE("LocalStorage.AFileRenamedWhileACleanerLooksAtItStays", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  auto file = storage.create(folder / "a.pt");
  file->append("x", 1);
  {
    SystemCallHook hook([&](const std::string& call) {
      if (call == "flock" && file) {  // the cleaner has opened it and comes to lock it
        file->commit();
        file.reset();
      }
      return 0;
    });
    storage.remove(folder / "b");  // not its target: nothing happens
    REQUIRE(file);
    storage.create(folder / "a.pt");
    REQUIRE_FALSE(file);
  }
  CHECK(read_file(storage, folder / "a.pt") == "x");
}

TEST_CASE("LocalStorage.WithoutLocksNothingIsClearedAndSavingWorks", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  SystemCallHook hook([&](const std::string& call) { return call == "flock" ? ENOSYS : 0; });
  const auto file = storage.create(folder / "a.pt");
  write_file(storage, folder / "a.pt", "second");
  file->append("first", 5);
  file->commit();
  CHECK(read_file(storage, folder / "a.pt") == "first");
}

TEST_CASE("LocalStorage.AFullDiskIsAnIoErrorAndTheOldFileStays", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  // A disk of our own needs a mount namespace, which not every machine grants.
  ChildProcess child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
    if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) return 77;
    write_file(storage, folder / "a.pt", "old");
    try {
      write_file(storage, folder / "a.pt", std::string(4 << 20, 'n'));
      return 1;
    } catch (const IoError& error) {
      if (error.error_number() != ENOSPC) return 2;
    }
    if (read_file(storage, folder / "a.pt") != "old") return 3;
    return n_raw_names(folder.path()) == 1 ? 0 : 4;
  });
  const int code = child.wait();
  if (code == 77) {
    WARN("skipped: no tmpfs can be mounted here");
    return;
  }
  CHECK(code == 0);
}

TEST_CASE("LocalStorage.InterruptedAndShortWritesAtPositionsAreContinued", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  std::string content(100'000, ' ');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7);
  {
    std::atomic<int> n{0};
    SystemCallHook hook(
        [&](const std::string& call) { return (call == "pwrite" || call == "fallocate") && ++n % 2 == 1 ? EINTR : 0; });
    ShortWrites short_writes(777);
    const auto file = storage.create(folder / "a.pt");
    file->reserve(content.size());
    file->write_at(50'000, content.data() + 50'000, 50'000);
    file->write_at(0, content.data(), 50'000);
    file->commit();
  }
  CHECK((read_file(storage, folder / "a.pt") == content));
}

TEST_CASE("LocalStorage.AWriteAtAPositionThatFailsLeavesTheOldFile", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "a.pt", "old");
  {
    SystemCallHook hook([&](const std::string& call) { return call == "pwrite" ? ENOSPC : 0; });
    const auto file = storage.create(folder / "a.pt");
    CHECK_THROWS_WITH(file->write_at(0, "new", 3), ContainsSubstring("a.pt") && ContainsSubstring("No space left"));
    CHECK_THROWS_AS(file->commit(), IoError);
  }
  CHECK(read_file(storage, folder / "a.pt") == "old");
  CHECK(n_raw_names(folder.path()) == 1);
}

TEST_CASE("LocalStorage.NoRoomForAReservationIsAnIoErrorAndNoReservationsAreNone", "[local][crash]") {
  TempFolder folder;
  LocalStorage storage;
  {
    SystemCallHook hook([&](const std::string& call) { return call == "fallocate" ? ENOSPC : 0; });
    const auto file = storage.create(folder / "a.pt");
    CHECK_THROWS_WITH(file->reserve(5), ContainsSubstring("a.pt") && ContainsSubstring("No space left"));
    CHECK_THROWS_AS(file->write_at(0, "x", 1), IoError);
  }
  SystemCallHook hook([&](const std::string& call) { return call == "fallocate" ? EOPNOTSUPP : 0; });
  const auto file = storage.create(folder / "a.pt");
  file->reserve(5);
  file->write_at(0, "x", 1);
  file->commit();
  CHECK(read_file(storage, folder / "a.pt") == "x");
}

TEST_CASE("LocalStorage.WhatWasReservedButNotWrittenIsGivenBack", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  const auto file = storage.create(folder / "a.pt");
  file->reserve(8 << 20);
  file->write_at(0, "x", 1);
  file->commit();
  struct stat status {};
  REQUIRE(::stat((folder / "a.pt").c_str(), &status) == 0);
  CHECK(status.st_blocks * 512 < 1 << 20);
}
