// SPDX-License-Identifier: Apache-2.0
// Zip files that are damaged or made to deceive are refused, and the message says what and where.
#include <sys/resource.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <string>

#include "ckptio/error.h"
#include "codec/zip_reader.h"
#include "core/child_process.h"
#include "core/deflate_vectors.h"
#include "support/catch.h"
#include "support/random_seed.h"
#include "support/raw_zip.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

using Content = std::map<std::string, std::string>;

// Everything in an archive, read in all the ways there are.
Content read_all(const std::string& bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());  // so that a sanitizer sees reads beyond the end
  const ByteSource source{"bad.pt", exact.size(), [&](std::uint64_t offset, void* destination, std::size_t n_bytes) {
                            if (offset > exact.size() || n_bytes > exact.size() - offset) std::abort();
                            std::copy_n(exact.begin() + static_cast<std::ptrdiff_t>(offset), n_bytes,
                                        static_cast<char*>(destination));
                          }};
  const ZipReader reader(source);
  Content content;
  for (const auto& record : reader.records()) {
    reader.verify(record);
    const auto data = reader.read(record);
    content[std::string(record.name)] = std::string(data.begin(), data.end());
  }
  return content;
}

RawZip small_zip() {
  RawZip zip;
  zip.add("a/data.pkl", "pickle");
  zip.add("a/code", kDeflateVectors[2].compressed, kDeflateVectors[2].content).has_descriptor = false;
  return zip;
}

// The message of the CorruptError; it must name the file.
std::string error_of(const std::string& bytes) {
  try {
    read_all(bytes);
  } catch (const CorruptError& error) {
    CHECK_THAT(error.what(), StartsWith("cannot read 'bad.pt': "));
    return error.what();
  }
  return "no error";
}

std::string error_of(RawZip& zip) { return error_of(zip.bytes()); }

std::string at_byte(std::uint64_t offset) { return "at byte " + std::to_string(offset) + ":"; }

}  // namespace

#define CHECK_ERROR(what, text) CHECK_THAT(error_of(what), ContainsSubstring(text))

TEST_CASE("ZipCorrupt.AnEmptyFile", "[zip][corrupt]") { CHECK_ERROR(std::string(), "the file is empty"); }

TEST_CASE("ZipCorrupt.NotAZipAtAll", "[zip][corrupt]") {
  CHECK_ERROR(std::string("\x80\x02\x8a\x0alegacy pickle of torch"),
              "not a zip archive (26 bytes): it begins with the bytes 0x80 0x2 0x8a 0xa");
  CHECK_ERROR(std::string("x"), "not a zip archive");
  CHECK_ERROR(std::string(100'000, 'x'), "not a zip archive");
}

TEST_CASE("ZipCorrupt.ATruncatedFileIsCalledThat", "[zip][corrupt]") {
  CHECK_ERROR(small_zip().bytes().substr(0, 100), "the file is truncated (100 bytes)");
  CHECK_ERROR(std::string("PK\3\4"), "the file is truncated (4 bytes)");
}

TEST_CASE("ZipCorrupt.BytesBehindTheEndRecord", "[zip][corrupt]") {
  CHECK_ERROR(small_zip().bytes() + "trailing", "bytes behind it 8 found, 0 (the length of its comment) expected");
}

TEST_CASE("ZipCorrupt.ACommentOfAnotherLength", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.end.comment_length = 1;
  CHECK_ERROR(zip, "end record");
}

TEST_CASE("ZipCorrupt.BytesBeforeTheFirstRecord", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.before = "#!/bin/sh\n";
  CHECK_ERROR(zip, "bytes before the first record 10 found, 0 expected");
  zip.records.clear();
  CHECK_ERROR(zip, "bytes before it 10 found, 0 expected");
}

TEST_CASE("ZipCorrupt.BytesBetweenDirectoryAndEnd", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.has_zip64 = GENERATE(false, true);
  zip.behind = "hidden";
  CHECK_ERROR(zip, "directory of ");
}

TEST_CASE("ZipCorrupt.ADirectoryOutsideTheFile", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.has_zip64 = false;
  SECTION("too far") { zip.end.directory_offset = 0x7FFFFFFF; }
  SECTION("too early") { zip.end.directory_offset = 0; }
  SECTION("too large") { zip.end.directory_bytes = 0x7FFFFFFF; }
  SECTION("too small") { zip.end.directory_bytes = 1; }
  CHECK_ERROR(zip, "end record at byte");
}

TEST_CASE("ZipCorrupt.AZip64DirectoryOutsideTheFile", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.end.directory_offset = zip.end.directory_bytes = 0xFFFFFFFF;
  SECTION("offset overflows") { zip.zip64.directory_offset = UINT64_MAX; }
  SECTION("size overflows") { zip.zip64.directory_bytes = UINT64_MAX; }
  SECTION("both wrap around to the right place") {
    zip.zip64.directory_offset = UINT64_MAX - 10;
    zip.zip64.directory_bytes = 500;
  }
  CHECK_ERROR(zip, "directory of ");
}

TEST_CASE("ZipCorrupt.ZipAndZip64EndRecordsDisagree", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("number") { zip.end.n_here = zip.end.n_total = 1; }
  SECTION("size") { zip.end.directory_bytes = 1; }
  SECTION("offset") { zip.end.directory_offset = 1; }
  CHECK_ERROR(zip, "as in the Zip64 end record");
}

TEST_CASE("ZipCorrupt.AZip64LocatorThatPointsElsewhere", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("beyond itself") { zip.locator.offset = 1'000'000; }
  SECTION("overflowing") { zip.locator.offset = UINT64_MAX - 3; }
  CHECK_ERROR(zip, "Zip64 locator");
}

TEST_CASE("ZipCorrupt.AZip64EndRecordThatIsNone", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("signature") { zip.zip64.signature = 0x12345678; }
  SECTION("place") { zip.locator.offset = 0; }
  SECTION("length") { zip.zip64.length = 45; }
  SECTION("length overflows") { zip.zip64.length = UINT64_MAX; }
  CHECK_ERROR(zip, "Zip64 end record at byte");
}

TEST_CASE("ZipCorrupt.SeveralDisks", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("end") { zip.end.disk = 1; }
  SECTION("end, directory") { zip.end.directory_disk = 1; }
  SECTION("end, records here") { zip.end.n_here = 1; }
  SECTION("Zip64 end") { zip.zip64.disk = 1; }
  SECTION("Zip64 end, directory") { zip.zip64.directory_disk = 1; }
  SECTION("Zip64 end, records here") { zip.zip64.n_here = 1; }
  SECTION("locator") { zip.locator.disk = 1; }
  SECTION("locator, number") { zip.locator.n_disks = 2; }
  SECTION("entry") { zip.records[0].central.disk = 1; }
  CHECK_ERROR(zip, "disk");
}

TEST_CASE("ZipCorrupt.MoreRecordsThanTheDirectoryCanHold", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("plain") {
    zip.has_zip64 = false;
    zip.end.n_here = zip.end.n_total = 0xFFFF;
  }
  SECTION("Zip64") {
    zip.end.n_here = zip.end.n_total = 0xFFFF;
    zip.zip64.n_here = zip.zip64.n_total = UINT64_MAX / 2;
  }
  CHECK_ERROR(zip, "number of records");
}

TEST_CASE("ZipCorrupt.FewerRecordsThanTheDirectoryHolds", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.has_zip64 = false;
  zip.end.n_here = zip.end.n_total = 1;
  CHECK_ERROR(zip, "bytes behind its last entry");
}

TEST_CASE("ZipCorrupt.AnEntryWithoutItsSignature", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.records[1].central.signature = 0;
  CHECK_ERROR(zip, "directory at byte");
}

TEST_CASE("ZipCorrupt.AnEntryLongerThanTheDirectory", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("name") { zip.records[1].central.name_length = 0xFFFF; }
  SECTION("extra") { zip.records[1].central.extra_length = 0xFFFF; }
  SECTION("comment") { zip.records[1].central.comment_length = 0xFFFF; }
  CHECK_ERROR(zip, "length of an entry");
}

TEST_CASE("ZipCorrupt.AnUnknownMethod", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.records[0].method = 99;
  CHECK_ERROR(zip, "record 'a/data.pkl' at byte");
  CHECK_ERROR(zip, "compression method 99 found, 0 (stored) or 8 (deflated) expected");
}

TEST_CASE("ZipCorrupt.ADirectoryThatHoldsBytes", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("by its attributes") { zip.records[0].central.attributes = 1u << 4; }
  SECTION("by its name") { zip.records[0].name = "a/data.pkl/"; }
  CHECK_ERROR(zip, "size of a directory 6 found, 0 expected");
}

TEST_CASE("ZipCorrupt.Encryption", "[zip][corrupt]") {
  RawZip zip = small_zip();
  const std::uint16_t flag = GENERATE(1, 1 << 5, 1 << 6, 1 << 13);
  SECTION("in the directory") { zip.records[0].central.flags = 0x808 | flag; }
  SECTION("in the local header") { zip.records[0].local.flags = 0x808 | flag; }
  CHECK_ERROR(zip, "flags");
}

TEST_CASE("ZipCorrupt.AStoredRecordOfTwoSizes", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.records[0].central.size = 7;
  CHECK_ERROR(zip, "size of stored data 6 found, 7 expected");
}

TEST_CASE("ZipCorrupt.ADeflatedRecordThatClaimsMoreThanDeflateCanHold", "[zip][corrupt]") {
  RawZip zip;
  zip.add("a/bomb", std::string(100, 'x'), "content").central.size = 0xFFFFFFF0;
  CHECK_ERROR(zip, "at most 1032 times the 100 compressed bytes");
}

TEST_CASE("ZipCorrupt.AFalseClaimOfManyBytesCostsNoMemory", "[zip][corrupt]") {
  // 4 MB that claim 4 GB, a ratio that deflate can reach.
  RawZip zip;
  zip.add("a/bomb", std::string(4'300'000, 'x'), "content").central.size = 0xFFFFFFF0;
  const std::string bytes = zip.bytes();
  ChildProcess child([&] {
#ifndef __SANITIZE_ADDRESS__  // which takes terabytes of addresses for itself
    const rlimit limit{1u << 30, 1u << 30};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) return 1;
#endif
    const ZipReader reader(memory_source("bad.pt", bytes.data(), bytes.size()));
    try {
      reader.read(reader.records()[0]);
      return 2;
    } catch (const CorruptError&) {
      return 0;
    }
  });
  CHECK(child.wait() == 0);
}

TEST_CASE("ZipCorrupt.DamagedExtraFields", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("an overhanging one in the directory") { zip.records[0].central.extra = le(9, 2) + le(5, 2) + "1234"; }
  SECTION("an overhanging one in a local header") { zip.records[1].local.extra = le(9, 2) + le(5, 2) + "1234"; }
  SECTION("two Zip64 fields") { zip.records[0].central.extra = le(1, 2) + le(0, 2) + le(1, 2) + le(0, 2); }
  SECTION("a Zip64 field that is too short") {
    zip.records[0].central.size = zip.records[0].central.compressed_size = 0xFFFFFFFF;
    zip.records[0].central.extra = le(1, 2) + le(8, 2) + le(6, 8);
  }
  CHECK_ERROR(zip, "damaged extra fields found");
}

TEST_CASE("ZipCorrupt.AMarkedSizeWithoutAZip64Field", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.records[0].central.size = zip.records[0].central.compressed_size = 0xFFFFFFFF;
  CHECK_ERROR(zip, "compressed size 4294967295 found");
}

TEST_CASE("ZipCorrupt.AZip64OffsetThatOverflows", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.records[1].central.offset = 0xFFFFFFFF;
  zip.records[1].central.extra = le(1, 2) + le(8, 2) + le(UINT64_MAX - 4, 8);
  CHECK_ERROR(zip, "before the directory");
}

TEST_CASE("ZipCorrupt.ALocalHeaderThatIsNone", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("signature") { zip.records[1].local.signature = 0; }
  SECTION("place") { zip.records[1].central.offset = 100; }
  CHECK_ERROR(zip, "local header");
}

TEST_CASE("ZipCorrupt.LocalHeaderAndDirectoryDisagree", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("name") { zip.records[1].local.name = "a/cOde"; }
  SECTION("length of the name") { zip.records[1].local.name_length = 5; }
  SECTION("method") { zip.records[1].local.method = 0; }
  SECTION("size") { zip.records[1].local.size = 1; }
  SECTION("compressed size") { zip.records[1].local.compressed_size = 1; }
  SECTION("CRC") { zip.records[1].local.crc = 1; }
  CHECK_ERROR(zip, "local header");
  CHECK_ERROR(zip, "record 'a/code' " + at_byte(zip.records[1].written_at));
}

TEST_CASE("ZipCorrupt.DataThatReachesIntoTheDirectory", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.records[0].central.size = zip.records[0].central.compressed_size = 100'000;
  CHECK_ERROR(zip, "an end before the directory");
}

TEST_CASE("ZipCorrupt.RecordsThatOverlap", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("the first one's data covers the second's header") {
    zip.records[0].data = std::string(300, 'x');
    zip.records[0].size = 300;
    const std::string inner = zip.bytes();
    zip.records[1].central.offset = static_cast<std::uint32_t>(zip.records[1].written_at - 100);
    CHECK_ERROR(zip, "overlaps record 'a/data.pkl'");
  }
  SECTION("two entries name one header") {
    zip.add("a/data.pkl2", "pickle").is_written = false;
    zip.records[2].central.offset = 0;
    CHECK_ERROR(zip, "overlaps record");
  }
  SECTION("the first claims the second's bytes") {
    zip.records[0].central.size = zip.records[0].central.compressed_size = 70;
    CHECK_ERROR(zip, "record 'a/code' " + at_byte(86) + " overlaps record 'a/data.pkl', which ends at byte 134");
  }
}

TEST_CASE("ZipCorrupt.EqualNames", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("exactly") { zip.add("a/data.pkl", "other"); }
  SECTION("but for case") { zip.add("A/Data.PKL", "other"); }
  CHECK_ERROR(zip, "a second record of the name");
}

TEST_CASE("ZipCorrupt.NamesThatLeadElsewhere", "[zip][corrupt]") {
  for (const auto& name :
       {std::string("/etc/passwd"), std::string("\\x"), std::string("C:x"), std::string(".."), std::string("a/../b"),
        std::string("a/.."), std::string("../a"), std::string("a\\..\\b"), std::string("a\0b", 3), std::string()}) {
    RawZip zip;
    zip.add("a/x", "x");
    zip.add(name, "y");
    CHECK_ERROR(zip, " found");
  }
  RawZip harmless;
  harmless.add("a/..b", "x");
  harmless.add("a/b..", "x");
  harmless.add("a/...", "x");
  CHECK(error_of(harmless) == "no error");
}

TEST_CASE("ZipCorrupt.NamesInMessagesAreReadable", "[zip][corrupt]") {
  RawZip zip;
  zip.add("a/\x1b[2J\n", "x").method = 99;
  CHECK_ERROR(zip, "record 'a/\\x1b[2J\\x0a'");
  zip.records[0].name = std::string(60'000, 'n');
  CHECK(error_of(zip).size() < 500);
}

TEST_CASE("ZipCorrupt.ContentThatDoesNotFitItsCrc", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("stored") {
    zip.records[0].data = "Pickle";
    CHECK_ERROR(zip, "record 'a/data.pkl' at byte 64: CRC-32 ");
    CHECK_ERROR(zip, "found in its 6 bytes");
  }
  SECTION("deflated") {
    zip.records[1].crc = 0x12345678;
    CHECK_ERROR(zip, "12345678 expected: the data is damaged");
  }
}

TEST_CASE("ZipCorrupt.DeflatedDataThatDoesNotFit", "[zip][corrupt]") {
  RawZip zip = small_zip();
  SECTION("damaged") { zip.records[1].data[0] = 7; }
  SECTION("holds more") { zip.records[1].size -= 1; }
  SECTION("holds less") { zip.records[1].size += 1; }
  SECTION("is followed by other bytes") { zip.records[1].data += "x"; }
  CHECK_ERROR(zip, "record 'a/code' at byte");
  CHECK_ERROR(zip, "the compressed data");
}

TEST_CASE("ZipCorrupt.EveryTruncationIsRefused", "[zip][corrupt]") {
  const std::string bytes = small_zip().bytes();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    INFO("cut to " << n << " bytes");
    REQUIRE_THROWS_AS(read_all(bytes.substr(0, n)), CorruptError);
  }
}

TEST_CASE("ZipCorrupt.EveryFlippedBitIsRefusedOrChangesNothing", "[zip][corrupt]") {
  RawZip zip = small_zip();
  zip.has_zip64 = GENERATE(true, false);
  const std::string bytes = zip.bytes();
  const Content expected = read_all(bytes);
  std::size_t n_refused = 0;
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    Content found;
    try {
      found = read_all(flipped);
    } catch (const CorruptError&) {
      ++n_refused;
      continue;
    }
    INFO("bit " << bit % 8 << " of byte " << bit / 8);
    REQUIRE((found == expected));
  }
  CHECK(n_refused > bytes.size() * 8 / 3);
}

TEST_CASE("ZipCorrupt.RandomDamageIsRefusedOrChangesNothing", "[zip][corrupt]") {
  std::mt19937 random(random_seed());
  RawZip zip = small_zip();
  const std::string bytes = zip.bytes();
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = bytes;
    // Runs of a value that means much in a zip: zeros, ones, or a piece of the file itself. A CRC field may become
    // 0 by that, so what is read may differ; it must not crash, hang or throw another error.
    const std::size_t begin = random() % bytes.size(), n = 1 + random() % 8;
    const std::size_t from = random() % bytes.size();
    for (std::size_t k = 0; k < n && begin + k < bytes.size(); ++k) {
      damaged[begin + k] = i % 3 == 0 ? '\0' : i % 3 == 1 ? '\xff' : bytes[(from + k) % bytes.size()];
    }
    try {
      read_all(damaged);
    } catch (const CorruptError&) {
    }
  }
}
