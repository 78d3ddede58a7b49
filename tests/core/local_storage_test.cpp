// SPDX-License-Identifier: Apache-2.0
// What LocalStorage promises beyond the contract: links, permissions, odd files, names, litter.
#include "ckptio/storage/local_storage.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "ckptio/error.h"
#include "core/child_process.h"
#include "support/catch.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using namespace ckptio::test;
namespace fs = std::filesystem;

namespace {

// Everything that is in the folder, also what list() hides.
std::vector<std::string> raw_names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  return names;
}

void touch(const std::string& path) { std::ofstream(path) << "x"; }

mode_t mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

int error_number_of_create(const std::string& path) {
  try {
    LocalStorage().create(path);
    return 0;
  } catch (const IoError& error) {
    return error.error_number();
  }
}

}  // namespace

TEST_CASE("LocalStorage.ANewFileHasTheUmasksPermissions", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  const mode_t old_umask = ::umask(027);
  write_file(storage, folder / "a.pt", "x");
  ::umask(old_umask);
  CHECK(mode_of(folder / "a.pt") == 0640);
}

TEST_CASE("LocalStorage.ReplacingKeepsThePermissions", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  for (const mode_t mode : {0600, 0666, 0444}) {
    write_file(storage, folder / "a.pt", "x");
    REQUIRE(::chmod((folder / "a.pt").c_str(), mode) == 0);
    write_file(storage, folder / "a.pt", "y");
    CHECK(mode_of(folder / "a.pt") == mode);
  }
}

TEST_CASE("LocalStorage.ALinkIsReplacedAndWhatItPointsToStays", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "epoch=3.ckpt", "three");
  fs::create_symlink("epoch=3.ckpt", folder / "last.ckpt");
  CHECK(read_file(storage, folder / "last.ckpt") == "three");
  write_file(storage, folder / "last.ckpt", "four");
  CHECK(read_file(storage, folder / "epoch=3.ckpt") == "three");
  CHECK(read_file(storage, folder / "last.ckpt") == "four");
  CHECK_FALSE(fs::is_symlink(folder / "last.ckpt"));
}

TEST_CASE("LocalStorage.ALinkThatLeadsNowhereDoesNotExistAndCanBeWritten", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  fs::create_symlink("nowhere", folder / "a.pt");
  fs::create_symlink("loop", folder / "loop");
  CHECK_FALSE(storage.exists(folder / "a.pt"));
  CHECK_FALSE(storage.exists(folder / "loop"));
  CHECK_THROWS_AS(storage.open(folder / "a.pt"), NotFoundError);
  CHECK_THROWS_AS(storage.open(folder / "loop"), IoError);
  write_file(storage, folder / "a.pt", "x");
  write_file(storage, folder / "loop", "y");
  CHECK(read_file(storage, folder / "a.pt") == "x");
  CHECK(read_file(storage, folder / "loop") == "y");
}

TEST_CASE("LocalStorage.ALinkToAFolderIsAFolder", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "real/a.pt", "x");
  fs::create_directory_symlink("real", folder / "link");
  CHECK_THROWS_AS(storage.create(folder / "link"), IoError);
  write_file(storage, folder / "link/b.pt", "y");
  CHECK(read_file(storage, folder / "real/b.pt") == "y");
}

TEST_CASE("LocalStorage.RemoveNeverFollowsLinks", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "precious/a.pt", "x");
  fs::create_directories(folder / "f/sub");
  fs::create_directory_symlink(folder / "precious", folder / "f/sub/link");
  fs::create_directory_symlink(folder / "precious", folder / "link");
  storage.remove(folder / "f");
  storage.remove(folder / "link/");
  CHECK_FALSE(fs::exists(folder / "f"));
  CHECK_FALSE(fs::is_symlink(folder / "link"));
  CHECK(read_file(storage, folder / "precious/a.pt") == "x");
}

TEST_CASE("LocalStorage.RemoveRefusesPathsThatAreNotNames", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "f/a.pt", "x");
  for (const auto* path : {"f/.", "f/..", "f/../", "f/./"}) CHECK_THROWS_AS(storage.remove(folder / path), ValueError);
  CHECK_THROWS_AS(storage.remove("/"), ValueError);
  CHECK_THROWS_AS(storage.remove("."), ValueError);
  CHECK(read_file(storage, folder / "f/a.pt") == "x");
}

TEST_CASE("LocalStorage.PipesAndDevicesAreRefusedWithoutWaiting", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0666) == 0);
  CHECK_THROWS_WITH(storage.open(folder / "pipe"), ContainsSubstring("is not a regular file"));
  CHECK_THROWS_WITH(storage.create(folder / "pipe"), ContainsSubstring("is not a regular file"));
  CHECK_THROWS_AS(storage.open("/dev/null"), IoError);
  CHECK_THROWS_AS(storage.create("/dev/null"), IoError);
  storage.remove(folder / "pipe");
  CHECK(raw_names(folder.path()).empty());
}

TEST_CASE("LocalStorage.TheLongestNamesWork", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  std::string umlauts;
  while (umlauts.size() + 2 <= 255) umlauts += "\xC3\xA4";
  for (const std::string& name : {std::string(255, 'a'), std::string(230, 'b'), std::string(212, 'c'), umlauts}) {
    write_file(storage, folder / name, "x");
    CHECK(read_file(storage, folder / name) == "x");
  }
  CHECK(raw_names(folder.path()).size() == 4);
  CHECK(error_number_of_create(folder / std::string(256, 'a')) == ENAMETOOLONG);
}

TEST_CASE("LocalStorage.AFileInTheParentsPlaceIsAnIoErrorWithItsErrno", "[local]") {
  TempFolder folder;
  touch(folder / "file");
  CHECK(error_number_of_create(folder / "file/a.pt") == ENOTDIR);
  CHECK(error_number_of_create(folder / "file/b/a.pt") == ENOTDIR);
  CHECK(error_number_of_create(folder.path()) == EISDIR);
  CHECK(error_number_of_create(folder / "new/") == EISDIR);
  CHECK(raw_names(folder.path()) == std::vector<std::string>{"file"});
}

TEST_CASE("LocalStorage.AFolderThatMayNotBeWrittenIsAnIoErrorWithItsErrno", "[local]") {
  TempFolder folder;
  REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
  fs::create_directory(folder / "closed");
  touch(folder / "closed/a.pt");
  REQUIRE(::chmod((folder / "closed").c_str(), 0555) == 0);
  ChildProcess child([&] {
    // Permissions mean nothing to root.
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return 77;
    if (error_number_of_create(folder / "closed/a.pt") != EACCES) return 1;
    if (error_number_of_create(folder / "closed/new/a.pt") != EACCES) return 2;
    try {
      LocalStorage().remove(folder / "closed/a.pt");
      return 3;
    } catch (const IoError& error) {
      if (error.error_number() != EACCES) return 4;
    }
    return read_file(LocalStorage(), folder / "closed/a.pt") == "x" ? 0 : 5;
  });
  const int code = child.wait();
  ::chmod((folder / "closed").c_str(), 0755);
  if (code == 77) {
    WARN("skipped: the privileges of root cannot be dropped here");
    return;
  }
  CHECK(code == 0);
}

TEST_CASE("LocalStorage.AFileLargerThanTheLimitIsAnIoErrorAndTheOldOneStays", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "a.pt", "old");
  ChildProcess child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    try {
      write_file(storage, folder / "a.pt", std::string(3 << 20, 'n'));
      return 2;
    } catch (const IoError& error) {
      return error.error_number() == EFBIG ? 0 : 3;
    }
  });
  CHECK(child.wait() == 0);
  CHECK(read_file(storage, folder / "a.pt") == "old");
  CHECK(raw_names(folder.path()) == std::vector<std::string>{"a.pt"});
}

TEST_CASE("LocalStorage.ReservedNamesAreHiddenAndRefused", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  touch(folder / ".a.pt.1.2.ckptio-tmp");
  for (const auto* name : {"a.ckptio-tmp", ".a.1.ckptio-tmp", "a.1.2.ckptio-tmp", ".1.2.ckptio-tmp"}) {
    write_file(storage, folder / name, "x");
  }
  CHECK(storage.list(folder.path()) ==
        std::vector<std::string>{".1.2.ckptio-tmp", ".a.1.ckptio-tmp", "a.1.2.ckptio-tmp", "a.ckptio-tmp"});
  CHECK_THROWS_AS(storage.create(folder / ".a.pt.1.2.ckptio-tmp"), ValueError);
}

TEST_CASE("LocalStorage.OnlyLitterOfTheSameTargetIsCleared", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  const std::string own_pid = std::to_string(::getpid());  // as after a pid was used again: the lock decides
  touch(folder / (".a." + own_pid + ".7.ckptio-tmp"));
  touch(folder / ".a.1.2.ckptio-tmp");
  fs::create_directories(folder / ".a.3.4.ckptio-tmp/deep/er");
  const std::vector<std::string> kept = {".a.1.2.3.4.ckptio-tmp", ".a.pt.1.2.ckptio-tmp", ".b.1.2.ckptio-tmp",
                                         ".a.1.2.tmp", "a.1.2.ckptio-tmp"};
  for (const auto& name : kept) touch(folder / name);
  SECTION("by create()") { storage.create(folder / "a"); }
  SECTION("by remove() of nothing") { storage.remove(folder / "a"); }
  CHECK(raw_names(folder.path()).size() == kept.size());
  for (const auto& name : kept) CHECK(fs::exists(folder / name));
}

TEST_CASE("LocalStorage.LongNamesOfOneBeginningDoNotShareLitter", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  const std::string common(250, 'n');
  ChildProcess child([&] {
    const auto file = storage.create(folder / (common + "1"));
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  REQUIRE(child.wait() == -SIGKILL);
  REQUIRE(raw_names(folder.path()).size() == 1);
  storage.create(folder / (common + "2"));
  CHECK(raw_names(folder.path()).size() == 1);
  storage.create(folder / (common + "1"));
  CHECK(raw_names(folder.path()).empty());
}

TEST_CASE("LocalStorage.ALivingWriterIsNeverCleared", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  SECTION("of this process") {
    const auto file = storage.create(folder / "a.pt");
    file->append("first", 5);
    storage.remove(folder / "a.pt");
    write_file(storage, folder / "a.pt", "second");
    file->commit();
  }
  SECTION("of another process") {
    Gate is_writing, may_commit;
    ChildProcess child([&] {
      const auto file = storage.create(folder / "a.pt");
      file->append("first", 5);
      is_writing.signal();
      may_commit.wait();
      file->commit();
      return 0;
    });
    is_writing.wait();
    storage.remove(folder / "a.pt");
    write_file(storage, folder / "a.pt", "second");
    may_commit.signal();
    CHECK(child.wait() == 0);
  }
  CHECK(read_file(storage, folder / "a.pt") == "first");
  CHECK(raw_names(folder.path()) == std::vector<std::string>{"a.pt"});
}

TEST_CASE("LocalStorage.AForkedCopyOfAWriterDoesNotRemoveTheFile", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  auto file = storage.create(folder / "a.pt");
  file->append("x", 1);
  ChildProcess child([&] {
    file.reset();
    return 0;
  });
  REQUIRE(child.wait() == 0);
  file->commit();
  CHECK(read_file(storage, folder / "a.pt") == "x");
}

TEST_CASE("LocalStorage.AWriterKeepsItsFolderWhenTheWorkingFolderChanges", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  const fs::path before = fs::current_path();
  fs::create_directory(folder / "elsewhere");
  fs::current_path(folder.path());
  const auto file = storage.create("a.pt");
  fs::current_path(folder / "elsewhere");
  file->commit();
  fs::current_path(before);
  CHECK(fs::exists(folder / "a.pt"));
}

TEST_CASE("LocalStorage.AFileThatBecameShorterIsAnIoError", "[local]") {
  TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "a.pt", "0123456789");
  const auto file = storage.open(folder / "a.pt");
  fs::resize_file(folder / "a.pt", 6);
  char bytes[8];
  CHECK_NOTHROW(file->read_at(0, bytes, 6));
  CHECK_THROWS_WITH(file->read_at(2, bytes, 8), ContainsSubstring("a.pt") && ContainsSubstring("byte 2") &&
                                                    ContainsSubstring("expected 8 bytes, found 4"));
}

TEST_CASE("A mapped file is its bytes; what is written there reaches nobody", "[storage]") {
  const TempFolder folder;
  LocalStorage storage;
  write_file(storage, folder / "a.pt", "0123456789");
  auto file = storage.open(folder / "a.pt");
  const std::shared_ptr<void> memory = file->map();
  REQUIRE(memory != nullptr);
  auto* bytes = static_cast<char*>(memory.get());
  CHECK(std::string(bytes, 10) == "0123456789");
  bytes[0] = 'x';
  CHECK(read_file(storage, folder / "a.pt") == "0123456789");
  CHECK(std::string(static_cast<char*>(file->map().get()), 10) == "0123456789");
  file.reset();
  storage.remove(folder / "a.pt");
  CHECK(std::string(bytes, 10) == "x123456789");
  write_file(storage, folder / "empty", "");
  CHECK(storage.open(folder / "empty")->map() == nullptr);
}
