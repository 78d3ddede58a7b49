// SPDX-License-Identifier: Apache-2.0
// Zip files as torch.save and other tools write them are read.
#include "codec/zip_reader.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ckptio/error.h"
#include "core/deflate_vectors.h"
#include "support/catch.h"
#include "support/raw_zip.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

std::string text_of(const ZipReader& reader, const std::string& name) {
  const ZipRecord* record = reader.find(name);
  REQUIRE(record != nullptr);
  const auto bytes = reader.read(*record);
  return {bytes.begin(), bytes.end()};
}

RawZip torch_like() {
  RawZip zip;
  zip.add("archive/data.pkl", "pickle");
  zip.add("archive/byteorder", "little");
  zip.add("archive/data/0", some_text(1000));
  zip.add("archive/data/1", "").has_descriptor = false;
  zip.add("archive/version", "3\n");
  return zip;
}

// Of bytes that threads go through.
ByteSource scanned(const std::string& bytes, bool check_contents) {
  ByteSource source = memory_source("x.pt", bytes.data(), bytes.size());
  const auto run = [](std::size_t n, const std::function<void(std::size_t, unsigned char*)>& part) {
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
      std::vector<unsigned char> room(ScanSource::kRoomBytes);
      for (std::size_t i = next++; i < n; i = next++) part(i, room.data());
    };
    const std::jthread other(work);
    work();
  };
  source.scan = std::make_shared<ScanSource>(ScanSource{source.read_at, run, check_contents});
  return source;
}

// Some MB of records of all sizes.
RawZip many_records() {
  RawZip zip;
  for (std::size_t i = 0; i < 3000; ++i) {
    zip.add("archive/data/" + std::to_string(i), some_text(i % 500 == 7 ? 700'000 : i % 2000));
  }
  return zip;
}

std::string error_of(const ByteSource& source) {
  try {
    const ZipReader reader(source);
  } catch (const CorruptError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("ZipReader.ThreadsFindWhatOneFinds", "[zip]") {
  const std::string bytes = many_records().bytes();
  const ZipReader alone(memory_source("x.pt", bytes.data(), bytes.size()));
  for (const bool check_contents : {false, true}) {
    const ZipReader reader(scanned(bytes, check_contents));
    REQUIRE(reader.records().size() == 3000);
    for (std::size_t i = 0; i < 3000; ++i) {
      REQUIRE(reader.records()[i].data_offset == alone.records()[i].data_offset);
      const bool is_small = reader.records()[i].size > 0 && reader.records()[i].size < 2000;
      if (!check_contents || is_small) REQUIRE(reader.records()[i].is_checked == (check_contents && is_small));
    }
  }
}

TEST_CASE("ZipReader.TheFirstErrorIsTold", "[zip]") {
  const auto damage = [](const std::vector<std::size_t>& where, const auto& change) {
    RawZip zip = many_records();
    for (const std::size_t i : where) change(zip.records[i]);
    return zip.bytes();
  };
  const std::string headers = damage({2900, 1500, 777}, [](RawZipRecord& record) { record.local.method = 3; });
  const std::string content = damage({2900, 1500, 777}, [](RawZipRecord& record) { record.data.back() ^= 1; });
  for (const bool check_contents : {false, true}) {
    CHECK_THAT(error_of(scanned(headers, check_contents)), ContainsSubstring("'archive/data/777'"));
  }
  CHECK(error_of(scanned(content, false)) == "");
  CHECK_THAT(error_of(scanned(content, true)),
             ContainsSubstring("'archive/data/777'") && ContainsSubstring("the data is damaged"));
  CHECK(error_of(scanned(headers, false)) == error_of(memory_source("x.pt", headers.data(), headers.size())));
  // Neighbours may not overlap, be they of one part of the file or of two.
  for (std::size_t i = 1; i < 12; ++i) {
    RawZip zip;
    for (std::size_t n = 0; n < 12; ++n)
      zip.add("archive/data/" + std::to_string(n), some_text(n / 2 % 2 * 10'000 + 9));
    (void)zip.bytes();
    zip.records[i].central.offset = static_cast<std::uint32_t>(zip.records[i - 1].written_at + 1);
    const std::string bytes = zip.bytes();
    const std::string error = error_of(memory_source("x.pt", bytes.data(), bytes.size()));
    CHECK_THAT(error, ContainsSubstring("overlaps record"));
    for (const bool check_contents : {false, true}) CHECK(error_of(scanned(bytes, check_contents)) == error);
  }
}

TEST_CASE("ZipReader.RecordsOfATorchFileAreReadInOrder", "[zip]") {
  const std::string bytes = torch_like().bytes();
  const ZipReader reader(memory_source("x.pt", bytes.data(), bytes.size()));
  REQUIRE(reader.records().size() == 5);
  CHECK(reader.records()[0].name == "archive/data.pkl");
  CHECK(reader.records()[4].name == "archive/version");
  for (const auto& record : reader.records()) CHECK(record.data_offset % 64 == 0);
  CHECK(text_of(reader, "archive/data.pkl") == "pickle");
  CHECK(text_of(reader, "archive/data/0") == some_text(1000));
  CHECK(text_of(reader, "archive/data/1").empty());
  CHECK(reader.verify_all());
}

TEST_CASE("ZipReader.NamesAreFoundWithAndWithoutCase", "[zip]") {
  const std::string bytes = torch_like().bytes();
  const ZipReader reader(memory_source("x.pt", bytes.data(), bytes.size()));
  for (const auto& record : reader.records()) CHECK(reader.find(record.name) == &record);
  CHECK(reader.find("archive/DATA.pkl") == nullptr);
  CHECK(reader.find_ignoring_case("ARCHIVE/DATA.pkl") == &reader.records()[0]);
  CHECK(reader.find("archive/data") == nullptr);
  CHECK(reader.find("") == nullptr);
  CHECK(reader.find_ignoring_case("zzz") == nullptr);
}

TEST_CASE("ZipReader.PlainZipsOfOtherToolsAreRead", "[zip]") {
  RawZip zip;
  for (const auto& vector : kDeflateVectors) {
    auto& record = zip.add(std::string("a/") + vector.name, vector.compressed, vector.content);
    record.has_descriptor = record.has_padding = false;
  }
  zip.add("a/folder/", "").has_padding = false;
  zip.has_zip64 = false;
  SECTION("without a comment") {}
  SECTION("with a short comment") { zip.comment = "made by hand"; }
  SECTION("with the longest comment") { zip.comment = std::string(65535, 'c'); }
  SECTION("with a comment that holds the end record's signature") { zip.comment = "PK\5\6" + std::string(30, 'x'); }
  SECTION("with a gap before the directory") { zip.between = std::string(100, '-'); }
  const std::string bytes = zip.bytes();
  const ZipReader reader(memory_source("x.zip", bytes.data(), bytes.size()));
  for (const auto& vector : kDeflateVectors) {
    CHECK((text_of(reader, std::string("a/") + vector.name) == vector.content));
  }
  CHECK(reader.verify_all());
}

TEST_CASE("ZipReader.AnEmptyZipHasNoRecords", "[zip]") {
  RawZip zip;
  zip.has_zip64 = GENERATE(false, true);
  const std::string bytes = zip.bytes();
  CHECK(ZipReader(memory_source("x.zip", bytes.data(), bytes.size())).records().empty());
}

TEST_CASE("ZipReader.Zip64ExtraFieldsReplaceMarkedFields", "[zip]") {
  RawZip zip;
  auto& record = zip.add("a/x", "hello");
  record.has_descriptor = false;
  record.local.size = record.local.compressed_size = 0xFFFFFFFF;
  record.local.extra = le(0x7777, 2) + le(2, 2) + "??" + le(1, 2) + le(16, 2) + le(5, 8) + le(5, 8);
  record.central.size = record.central.compressed_size = record.central.offset = 0xFFFFFFFF;
  record.central.extra = le(1, 2) + le(24, 2) + le(5, 8) + le(5, 8) + le(0, 8);
  zip.end.n_here = zip.end.n_total = 0xFFFF;
  zip.end.directory_bytes = zip.end.directory_offset = 0xFFFFFFFF;
  const std::string bytes = zip.bytes();
  const ZipReader reader(memory_source("x.pt", bytes.data(), bytes.size()));
  CHECK(text_of(reader, "a/x") == "hello");
}

TEST_CASE("ZipReader.RecordsBeyondFourGigabytesAreRead", "[zip]") {
  // A file of 5 GB that exists only as a function: one record of zeros in the middle, real bytes at both ends.
  const std::uint64_t n_zeros = (std::uint64_t{5} << 30) + 3;
  const std::string head = le(0x04034b50, 4) + le(0, 2) + le(0x808, 2) + le(0, 18) + le(3, 2) + le(0, 2) + "a/x";
  const std::uint64_t second = head.size() + n_zeros;
  std::string tail = le(0x04034b50, 4) + le(0, 2) + le(0x808, 2) + le(0, 18) + le(3, 2) + le(0, 2) + "a/yhello";
  const std::uint64_t directory = second + tail.size();
  const auto entry = [](const char* name, std::uint32_t crc, std::uint32_t size, std::uint32_t offset,
                        const std::string& extra) {
    return le(0x02014b50, 4) + le(0, 4) + le(0x808, 2) + le(0, 6) + le(crc, 4) + le(size, 4) + le(size, 4) + le(3, 2) +
           le(extra.size(), 2) + le(0, 10) + le(offset, 4) + name + extra;
  };
  const std::string entries = entry("a/x", 0, 0xFFFFFFFF, 0, le(1, 2) + le(16, 2) + le(n_zeros, 8) + le(n_zeros, 8)) +
                              entry("a/y", crc32(0, "hello", 5), 5, 0xFFFFFFFF, le(1, 2) + le(8, 2) + le(second, 8));
  tail += entries + le(0x06064b50, 4) + le(44, 8) + le(0, 12) + le(2, 8) + le(2, 8) + le(entries.size(), 8) +
          le(directory, 8);
  tail += le(0x07064b50, 4) + le(0, 4) + le(directory + entries.size(), 8) + le(1, 4);
  tail += le(0x06054b50, 4) + le(0, 4) + le(2, 2) + le(2, 2) + le(entries.size(), 4) + le(0xFFFFFFFF, 4) + le(0, 2);

  const ByteSource source{
      "big.pt", second + tail.size(), [&](std::uint64_t offset, void* destination, std::size_t n) {
        auto* bytes = static_cast<char*>(destination);
        for (std::size_t i = 0; i < n; ++i, ++offset) {
          bytes[i] = offset < head.size() ? head[offset] : offset < second ? '\0' : tail.at(offset - second);
        }
      }};
  const ZipReader reader(source);
  CHECK(reader.find("a/x")->size == n_zeros);
  CHECK(text_of(reader, "a/y") == "hello");
}

TEST_CASE("ZipReader.ACrcOfZeroMeansNotComputed", "[zip]") {
  RawZip zip = torch_like();
  zip.records[0].crc = 0;
  const std::string bytes = zip.bytes();
  const ZipReader reader(memory_source("x.pt", bytes.data(), bytes.size()));
  CHECK(text_of(reader, "archive/data.pkl") == "pickle");
  CHECK_FALSE(reader.verify(reader.records()[0]));
  CHECK(reader.verify(reader.records()[2]));
  CHECK(reader.verify(reader.records()[3]));  // empty: 0 is its CRC
  CHECK_FALSE(reader.verify_all());
}

TEST_CASE("ZipReader.ASliceOfALargerFileIsAnArchive", "[zip]") {
  const std::string bytes = torch_like().bytes();
  const std::string file = "something before" + bytes + "something behind";
  const ByteSource whole = memory_source("x.distcp", file.data(), file.size());
  const ZipReader reader(slice_source("x.distcp", whole, 16, bytes.size()));
  CHECK(text_of(reader, "archive/data.pkl") == "pickle");
}

TEST_CASE("ZipReader.ErrorsOfTheSourcePassThrough", "[zip]") {
  const std::string bytes = torch_like().bytes();
  ByteSource source = memory_source("x.pt", bytes.data(), bytes.size());
  source.read_at = [](std::uint64_t, void*, std::size_t) { throw IoError("cannot read 'x.pt': gone"); };
  CHECK_THROWS_AS(ZipReader(source), IoError);
}

TEST_CASE("ZipReader.HeadersFarApartAreAskedForBeforeTheyAreRead", "[zip]") {
  RawZip zip;
  for (int i = 0; i < 100; ++i)
    zip.add("archive/data/" + std::to_string(i), std::string(i % 2 == 0 ? 70'000 : 10, 'x'));
  const std::string bytes = zip.bytes();
  ByteSource source = memory_source("x.pt", bytes.data(), bytes.size());
  std::vector<std::uint64_t> asked_for;
  std::size_t n_read_late = 0;
  source.prefetch = [&](std::uint64_t offset, std::size_t /*n_bytes*/) { asked_for.push_back(offset); };
  source.read_at = [&, read_at = source.read_at](std::uint64_t offset, void* destination, std::size_t n_bytes) {
    const bool was_asked_for = std::find(asked_for.begin(), asked_for.end(), offset) != asked_for.end();
    n_read_late += was_asked_for && offset != asked_for.back();
    read_at(offset, destination, n_bytes);
  };
  const ZipReader reader(source);
  // Those behind small records are read along with these.
  CHECK(asked_for.size() == 51);
  for (std::size_t i = 0; i < reader.records().size(); i += 2)
    CHECK(std::count(asked_for.begin(), asked_for.end(), reader.records()[i + 1].header_offset) == 1);
  CHECK(n_read_late >= 40);
}
