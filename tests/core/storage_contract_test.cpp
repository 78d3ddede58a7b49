// SPDX-License-Identifier: Apache-2.0
// What every StorageBackend promises (storage_backend.h), held against each of ours. A new backend is one more Place.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ckptio/error.h"
#include "ckptio/storage/local_storage.h"
#include "ckptio/storage/memory_storage.h"
#include "support/catch.h"
#include "support/faulty_storage.h"
#include "support/storage_helpers.h"
#include "support/temp_folder.h"

using namespace ckptio;
using namespace ckptio::test;

namespace {

struct LocalPlace {
  TempFolder folder;
  LocalStorage storage;
  std::string path(const std::string& name) const { return folder / name; }
};

struct NonDurableLocalPlace {
  TempFolder folder;
  LocalStorage storage{{.durable = false}};
  std::string path(const std::string& name) const { return folder / name; }
};

struct LocalUriPlace {
  TempFolder folder;
  LocalStorage storage;
  std::string path(const std::string& name) const { return "file://" + (folder / name); }
};

struct MemoryPlace {
  MemoryStorage storage;
  std::string path(const std::string& name) const { return "root/" + name; }
};

// The decorator of the tests must itself keep the contract while it has no fault to play.
struct FaultyPlace {
  FaultyStorage storage{std::make_shared<MemoryStorage>()};
  std::string path(const std::string& name) const { return "root/" + name; }
};

struct FaultyLocalPlace {
  TempFolder folder;
  FaultyStorage storage{std::make_shared<LocalStorage>()};
  std::string path(const std::string& name) const { return folder / name; }
};

using Names = std::vector<std::string>;

}  // namespace

#define PLACES LocalPlace, NonDurableLocalPlace, LocalUriPlace, MemoryPlace, FaultyPlace, FaultyLocalPlace
#define POSITIONAL_PLACES LocalPlace, NonDurableLocalPlace, FaultyLocalPlace

TEMPLATE_TEST_CASE("Storage.WhatWasCommittedIsRead", "[contract]", PLACES) {
  TestType place;
  const auto file = place.storage.create(place.path("a.pt"));
  file->append("hello ", 6);
  file->append("", 0);
  file->append("world", 5);
  file->commit();
  CHECK(read_file(place.storage, place.path("a.pt")) == "hello world");
}

TEMPLATE_TEST_CASE("Storage.AFileMayBeEmpty", "[contract]", PLACES) {
  TestType place;
  place.storage.create(place.path("a.pt"))->commit();
  CHECK(place.storage.open(place.path("a.pt"))->size() == 0);
  CHECK(place.storage.exists(place.path("a.pt")));
}

TEMPLATE_TEST_CASE("Storage.AppendsOfManySizesKeepTheirOrder", "[contract]", PLACES) {
  TestType place;
  std::string expected;
  const auto file = place.storage.create(place.path("a.pt"));
  char next = 0;
  for (const std::size_t size : {1, 1000, 1 << 20, 7, (1 << 20) - 1, (1 << 20) + 1, 3 << 20, 2, 1 << 19, 1 << 19, 1}) {
    const std::string piece(size, ++next);
    file->append(piece.data(), piece.size());
    expected += piece;
  }
  file->commit();
  CHECK((read_file(place.storage, place.path("a.pt")) == expected));
}

TEMPLATE_TEST_CASE("Storage.NothingIsSeenBeforeCommit", "[contract]", PLACES) {
  TestType place;
  const auto file = place.storage.create(place.path("f/a.pt"));
  file->append("new", 3);
  CHECK_FALSE(place.storage.exists(place.path("f/a.pt")));
  CHECK(place.storage.list(place.path("f")).empty());
  CHECK_THROWS_AS(place.storage.open(place.path("f/a.pt")), NotFoundError);
}

TEMPLATE_TEST_CASE("Storage.AWriterThatIsDroppedLeavesTheOldFile", "[contract]", PLACES) {
  TestType place;
  write_file(place.storage, place.path("a.pt"), "old");
  place.storage.create(place.path("a.pt"))->append("new", 3);
  CHECK(read_file(place.storage, place.path("a.pt")) == "old");
  CHECK(place.storage.list(place.path("")) == Names{"a.pt"});
}

TEMPLATE_TEST_CASE("Storage.CommitReplacesTheOldFile", "[contract]", PLACES) {
  TestType place;
  write_file(place.storage, place.path("a.pt"), "old and longer");
  write_file(place.storage, place.path("a.pt"), "new");
  CHECK(read_file(place.storage, place.path("a.pt")) == "new");
  CHECK(place.storage.list(place.path("")) == Names{"a.pt"});
}

TEMPLATE_TEST_CASE("Storage.AnOpenFileOutlivesReplacementAndRemoval", "[contract]", PLACES) {
  TestType place;
  write_file(place.storage, place.path("a.pt"), "old");
  const auto file = place.storage.open(place.path("a.pt"));
  write_file(place.storage, place.path("a.pt"), "a newer one");
  place.storage.remove(place.path("a.pt"));
  std::string content(3, ' ');
  file->read_at(0, content.data(), 3);
  CHECK(content == "old");
  CHECK(file->size() == 3);
}

TEMPLATE_TEST_CASE("Storage.TheLastOfTwoWritersWins", "[contract]", PLACES) {
  TestType place;
  const auto first = place.storage.create(place.path("a.pt"));
  const auto second = place.storage.create(place.path("a.pt"));
  first->append("first", 5);
  second->append("second", 6);
  second->commit();
  CHECK(read_file(place.storage, place.path("a.pt")) == "second");
  first->commit();
  CHECK(read_file(place.storage, place.path("a.pt")) == "first");
}

TEMPLATE_TEST_CASE("Storage.NoCallIsPossibleAfterCommit", "[contract]", PLACES) {
  TestType place;
  const auto file = place.storage.create(place.path("a.pt"));
  file->append("x", 1);
  file->commit();
  CHECK_THROWS_AS(file->commit(), IoError);
  CHECK_THROWS_AS(file->append("y", 1), IoError);
  CHECK(read_file(place.storage, place.path("a.pt")) == "x");
}

TEMPLATE_TEST_CASE("Storage.ParentFoldersAreMade", "[contract]", PLACES) {
  TestType place;
  write_file(place.storage, place.path("a/b/c/d.pt"), "x");
  CHECK(read_file(place.storage, place.path("a/b/c/d.pt")) == "x");
  CHECK(place.storage.exists(place.path("a/b")));
  CHECK(place.storage.exists(place.path("a/b/")));
}

TEMPLATE_TEST_CASE("Storage.AFolderIsNoFile", "[contract]", PLACES) {
  TestType place;
  write_file(place.storage, place.path("a/b.pt"), "x");
  CHECK_THROWS_AS(place.storage.create(place.path("a")), IoError);
  CHECK_THROWS_AS(place.storage.open(place.path("a")), IoError);
  CHECK_THROWS_WITH(place.storage.open(place.path("a")), ContainsSubstring("is a folder") && ContainsSubstring("/a'"));
}

TEMPLATE_TEST_CASE("Storage.AFileIsNoFolder", "[contract]", PLACES) {
  TestType place;
  write_file(place.storage, place.path("a"), "x");
  CHECK_THROWS_AS(place.storage.create(place.path("a/b.pt")), IoError);
  CHECK_THROWS_AS(place.storage.open(place.path("a/b.pt")), NotFoundError);
  CHECK_FALSE(place.storage.exists(place.path("a/b.pt")));
  CHECK(place.storage.list(place.path("a")).empty());
  CHECK_NOTHROW(place.storage.remove(place.path("a/b.pt")));
  CHECK(read_file(place.storage, place.path("a")) == "x");
}

TEMPLATE_TEST_CASE("Storage.WhatIsAbsentIsNotFound", "[contract]", PLACES) {
  TestType place;
  CHECK_THROWS_AS(place.storage.open(place.path("no/such.pt")), NotFoundError);
  CHECK_THROWS_WITH(place.storage.open(place.path("no/such.pt")), ContainsSubstring("no/such.pt"));
  CHECK_FALSE(place.storage.exists(place.path("no/such.pt")));
  CHECK(place.storage.list(place.path("no")).empty());
  CHECK_NOTHROW(place.storage.remove(place.path("no/such.pt")));
}

TEMPLATE_TEST_CASE("Storage.AnEmptyPathIsNothing", "[contract]", PLACES) {
  TestType place;
  CHECK_THROWS_AS(place.storage.create(""), IoError);
  CHECK_THROWS_AS(place.storage.open(""), NotFoundError);
  CHECK_FALSE(place.storage.exists(""));
  CHECK(place.storage.list("").empty());
  CHECK_NOTHROW(place.storage.remove(""));
}

TEMPLATE_TEST_CASE("Storage.AnyRangeInsideTheFileIsRead", "[contract]", PLACES) {
  TestType place;
  write_file(place.storage, place.path("a.pt"), "0123456789");
  const auto file = place.storage.open(place.path("a.pt"));
  std::string part(4, ' ');
  file->read_at(3, part.data(), 4);
  CHECK(part == "3456");
  file->read_at(6, part.data(), 4);
  CHECK(part == "6789");
  CHECK_NOTHROW(file->read_at(10, part.data(), 0));
}

TEMPLATE_TEST_CASE("Storage.ARangeOutsideTheFileIsAnIoError", "[contract]", PLACES) {
  TestType place;
  write_file(place.storage, place.path("a.pt"), "0123456789");
  const auto file = place.storage.open(place.path("a.pt"));
  char bytes[16];
  CHECK_THROWS_AS(file->read_at(8, bytes, 3), IoError);
  CHECK_THROWS_AS(file->read_at(11, bytes, 0), IoError);
  CHECK_THROWS_AS(file->read_at(UINT64_MAX, bytes, 2), IoError);
  CHECK_THROWS_AS(file->read_at(1, bytes, SIZE_MAX), IoError);
  CHECK_THROWS_WITH(file->read_at(8, bytes, 3), ContainsSubstring("a.pt") && ContainsSubstring("byte 8") &&
                                                    ContainsSubstring("3") && ContainsSubstring("10"));
}

TEMPLATE_TEST_CASE("Storage.ListNamesWhatIsDirectlyInsideSorted", "[contract]", PLACES) {
  TestType place;
  for (const auto* name : {"f/b.pt", "f/a.pt", "f/sub/x.pt", "f/sub/y.pt", "g/z.pt", "fa.pt"}) {
    write_file(place.storage, place.path(name), "x");
  }
  CHECK(place.storage.list(place.path("f")) == Names{"a.pt", "b.pt", "sub"});
  CHECK(place.storage.list(place.path("f/")) == Names{"a.pt", "b.pt", "sub"});
  CHECK(place.storage.list(place.path("")) == Names{"f", "fa.pt", "g"});
}

TEMPLATE_TEST_CASE("Storage.RemoveTakesAFileOrAWholeFolder", "[contract]", PLACES) {
  TestType place;
  for (const auto* name : {"f/a.pt", "f/sub/x.pt", "f/sub/deep/y.pt", "fa.pt", "g.pt"}) {
    write_file(place.storage, place.path(name), "x");
  }
  place.storage.remove(place.path("g.pt"));
  CHECK_FALSE(place.storage.exists(place.path("g.pt")));
  place.storage.remove(place.path("f"));
  CHECK_FALSE(place.storage.exists(place.path("f")));
  CHECK_FALSE(place.storage.exists(place.path("f/sub/x.pt")));
  CHECK(place.storage.list(place.path("")) == Names{"fa.pt"});
  write_file(place.storage, place.path("f"), "a file where the folder was");
  CHECK(place.storage.exists(place.path("f")));
}

TEMPLATE_TEST_CASE("Storage.ManyThreadsWriteOnePathAndReadersSeeWholeFiles", "[contract]", PLACES) {
  TestType place;
  const std::size_t size = 100'000;
  write_file(place.storage, place.path("a.pt"), std::string(size, 'z'));
  std::atomic<int> n_torn{0}, n_failed{0};
  const auto run = [&](auto work) {
    return std::thread([&n_failed, work] {
      try {
        for (int i = 0; i < 20; ++i) work();
      } catch (const std::exception&) {
        ++n_failed;
      }
    });
  };
  std::vector<std::thread> threads;
  for (const char letter : {'a', 'b', 'c'}) {
    threads.push_back(run([&, letter] { write_file(place.storage, place.path("a.pt"), std::string(size, letter)); }));
  }
  threads.push_back(run([&] {
    const std::string content = read_file(place.storage, place.path("a.pt"));
    if (content != std::string(size, content.at(0))) ++n_torn;
  }));
  for (auto& thread : threads) thread.join();
  CHECK(n_torn == 0);
  CHECK(n_failed == 0);
  CHECK(place.storage.list(place.path("")) == Names{"a.pt"});
}

TEMPLATE_TEST_CASE("Storage.APlaceWithoutPositionsSaysSoAndRefuses", "[contract]", MemoryPlace, FaultyPlace) {
  TestType place;
  const auto file = place.storage.create(place.path("a.pt"));
  CHECK_FALSE(file->can_write_at());
  CHECK_THROWS_AS(file->write_at(0, "x", 1), UnsupportedError);
}

TEMPLATE_TEST_CASE("Storage.AReservationIsNoContent", "[contract]", PLACES) {
  TestType place;
  const auto file = place.storage.create(place.path("a.pt"));
  file->reserve(1'000'000);
  file->append("short", 5);
  file->commit();
  CHECK(read_file(place.storage, place.path("a.pt")) == "short");
}

TEMPLATE_TEST_CASE("Storage.PiecesInAnyOrderMakeTheFile", "[contract]", POSITIONAL_PLACES) {
  TestType place;
  const auto file = place.storage.create(place.path("a.pt"));
  REQUIRE(file->can_write_at());
  file->reserve(100);
  file->write_at(6, "world", 5);
  file->write_at(3, "", 0);
  file->write_at(0, "?????", 5);
  file->write_at(0, "hello", 5);
  file->commit();
  CHECK(read_file(place.storage, place.path("a.pt")) == std::string("hello\0world", 11));
}

TEMPLATE_TEST_CASE("Storage.ThreadsWritePiecesSideBySide", "[contract]", POSITIONAL_PLACES) {
  TestType place;
  const std::size_t n_pieces = 64, n_bytes = 10'007;
  std::string expected;
  for (std::size_t i = 0; i < n_pieces; ++i) expected += std::string(n_bytes, static_cast<char>('A' + i));
  const auto file = place.storage.create(place.path("a.pt"));
  std::vector<std::thread> threads;
  for (std::size_t first = 0; first < 4; ++first) {
    threads.emplace_back([&, first] {
      for (std::size_t i = n_pieces - 4 + first; i < n_pieces; i -= 4) {
        file->write_at(i * n_bytes, expected.data() + i * n_bytes, n_bytes);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  file->commit();
  CHECK((read_file(place.storage, place.path("a.pt")) == expected));
}

TEMPLATE_TEST_CASE("Storage.AFileIsAppendedToOrWrittenAtPositionsNotBoth", "[contract]", POSITIONAL_PLACES) {
  TestType place;
  const auto appended = place.storage.create(place.path("a.pt"));
  appended->append("x", 1);
  CHECK_THROWS_AS(appended->write_at(0, "y", 1), IoError);
  const auto written = place.storage.create(place.path("b.pt"));
  written->write_at(0, "y", 1);
  CHECK_THROWS_AS(written->append("x", 1), IoError);
}

TEMPLATE_TEST_CASE("Storage.NoPieceCanBeWrittenAfterCommit", "[contract]", POSITIONAL_PLACES) {
  TestType place;
  const auto file = place.storage.create(place.path("a.pt"));
  file->write_at(0, "x", 1);
  file->commit();
  CHECK_THROWS_AS(file->write_at(0, "y", 1), IoError);
  CHECK_THROWS_AS(file->reserve(5), IoError);
  CHECK(read_file(place.storage, place.path("a.pt")) == "x");
}
