// SPDX-License-Identifier: Apache-2.0
// The faults that other tests rely on do strike, where and when they should.
#include "support/faulty_storage.h"

#include <memory>

#include "ckptio/storage/memory_storage.h"
#include "support/catch.h"
#include "support/storage_helpers.h"

using namespace ckptio;
using namespace ckptio::test;

TEST_CASE("FaultyStorage.FailsFromTheNthCallOn", "[faults]") {
  FaultyStorage storage(std::make_shared<MemoryStorage>());
  storage.faults().fail_at_call = 3;  // create, append, commit
  CHECK_THROWS_AS(write_file(storage, "a", "x"), IoError);
  CHECK_THROWS_AS(storage.exists("a"), IoError);
  storage.faults() = {};
  CHECK_FALSE(storage.exists("a"));
}

TEST_CASE("FaultyStorage.IsFullAtAByte", "[faults]") {
  FaultyStorage storage(std::make_shared<MemoryStorage>());
  storage.faults().fail_at_written_byte = 5;
  CHECK_NOTHROW(write_file(storage, "a", "12345"));
  CHECK_THROWS_WITH(write_file(storage, "b", "6"), ContainsSubstring("No space left on device"));
  storage.reset_counts();
  CHECK_NOTHROW(write_file(storage, "b", "6"));
}

TEST_CASE("FaultyStorage.FailsTheNthOfAKindOnceOnly", "[faults]") {
  FaultyStorage storage(std::make_shared<MemoryStorage>());
  storage.faults().fail_at_commit = 1;
  CHECK_THROWS_AS(write_file(storage, "a", "x"), IoError);
  CHECK_NOTHROW(write_file(storage, "a", "x"));
  storage.faults().fail_at_read = 2;
  CHECK_NOTHROW(read_file(storage, "a"));
  CHECK_THROWS_AS(read_file(storage, "a"), IoError);
  CHECK_NOTHROW(read_file(storage, "a"));
  CHECK(storage.counts().commits == 2);
  CHECK(storage.counts().reads == 3);
  CHECK(storage.counts().opens == 3);
}

TEST_CASE("FaultyStorage.StrikesTheNamedPathsOnly", "[faults]") {
  FaultyStorage storage(std::make_shared<MemoryStorage>());
  storage.faults() = {.fail_at_call = 1, .only_path_containing = "bad"};
  CHECK_NOTHROW(write_file(storage, "good", "x"));
  CHECK_THROWS_AS(write_file(storage, "bad", "x"), IoError);
}

TEST_CASE("FaultyStorage.ReportsShortFilesAndCutsOpenOnes", "[faults]") {
  FaultyStorage storage(std::make_shared<MemoryStorage>());
  write_file(storage, "a", "0123456789");
  storage.faults().truncate_to = 4;
  CHECK(read_file(storage, "a") == "0123");
  storage.faults() = {.shrink_to = 4};
  const auto file = storage.open("a");
  CHECK(file->size() == 10);
  char byte = 0;
  CHECK_NOTHROW(file->read_at(3, &byte, 1));
  CHECK_THROWS_AS(file->read_at(4, &byte, 1), IoError);
}

TEST_CASE("FaultyStorage.FlipsOneBitWhereverTheReadBegins", "[faults]") {
  FaultyStorage storage(std::make_shared<MemoryStorage>());
  write_file(storage, "a", "0000");
  storage.faults().flip_bit = 8 * 2 + 0;
  CHECK(read_file(storage, "a") == "0010");
  const auto file = storage.open("a");
  char bytes[2];
  file->read_at(2, bytes, 1);
  CHECK(bytes[0] == '1');
  file->read_at(3, bytes, 1);
  CHECK(bytes[0] == '0');
}
