// SPDX-License-Identifier: Apache-2.0
// Archives of Python's formats are opened whatever their order, padding, compression and byte order; damaged ones are
// refused, wherever the damage is.
#include "codec/archive.h"

#include <bit>
#include <string>

#include "ckptio/error.h"
#include "codec/pickle_output.h"
#include "codec/pickle_writer.h"
#include "core/deflate_vectors.h"
#include "support/catch.h"
#include "support/raw_zip.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

const std::string kFloats("\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40", 16);  // 1, 2, 3, 4

std::string pickle_of(DType dtype, DType storage_dtype, bool untyped, std::uint64_t n_bytes, std::int64_t n_items) {
  ObjectGraph graph;
  graph.storages.push_back({"0", "cpu", storage_dtype, untyped, n_bytes});
  ObjectTensor tensor;
  tensor.dtype = dtype;
  tensor.storage = 0;
  tensor.sizes = {n_items};
  tensor.strides = {1};
  const Object* root = graph.make(ObjectList{{graph.make(std::move(tensor))}});
  return write_pickle(graph, *root).bytes;
}

std::string float_pickle() { return pickle_of(DType::float32, DType::float32, false, 16, 4); }

RawZip python_zip(const std::string& pickle = float_pickle(), const std::string& storage = kFloats) {
  RawZip zip;
  zip.add("archive/data.pkl", pickle);
  zip.add("archive/byteorder", "little");
  zip.add("archive/data/0", storage);
  zip.add("archive/version", "3\n");
  return zip;
}

Archive open(const std::string& bytes) { return Archive::open(memory_source("x.pt", bytes.data(), bytes.size())); }

std::string storage_of(const Archive& archive, std::size_t index = 0) {
  std::string content(archive.storages().at(index).n_bytes, '\0');
  archive.read_storage(index, content.data());
  std::string pieces;
  archive.read_storage_pieces(
      index, [&](const void* data, std::size_t n) { pieces.append(static_cast<const char*>(data), n); });
  CHECK((pieces == content));
  return content;
}

// What the file holds, or "error". Anything but ckptio::Error fails the test.
std::string outcome(const std::string& bytes) {
  try {
    const Archive archive = open(bytes);
    std::string all = write_pickle(archive.graph(), archive.root()).bytes;
    for (std::size_t i = 0; i < archive.storages().size(); ++i) all += storage_of(archive, i);
    return all;
  } catch (const Error&) {
    return "error";
  }
}

// As torch.save(..., _use_new_zipfile_serialization=False) writes it: four floats under a key.
struct LegacyFile {
  std::string magic{"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15};
  std::string version{"\x80\x02M\xe9\x03.", 6};
  std::string machine{"\x80\x02}X\x0d\0\0\0little_endian\x88s.", 24};
  std::string key = "94826211350448";
  std::string listed_key = key;
  std::string length = le(4, 8), content = kFloats, behind;

  std::string bytes() const {
    PickleOutput object;
    object.global("torch._utils", "_rebuild_tensor_v2");
    object.opcode(op::kMark);
    object.opcode(op::kMark);
    object.text("storage");
    object.global("torch", "FloatStorage");
    object.text(key);
    object.text("cpu");
    object.integer(4);
    object.none();
    object.opcode(op::kTuple);
    object.opcode(op::kPersistentId);
    object.integer(0);
    object.integers(std::vector<std::int64_t>{4});
    object.integers(std::vector<std::int64_t>{1});
    object.flag(false);
    object.global("collections", "OrderedDict");
    object.opcode(op::kEmptyTuple);
    object.opcode(op::kReduce);
    object.opcode(op::kTuple);
    object.opcode(op::kReduce);
    PickleOutput keys;
    keys.opcode(op::kEmptyList);
    keys.text(listed_key);
    keys.opcode(op::kAppend);
    return magic + version + machine + object.finish() + keys.finish() + length + content + behind;
  }
};

}  // namespace

TEST_CASE("Archive.TorchSavesFileIsOpened", "[archive]") {
  const std::string bytes = python_zip().bytes();
  const Archive archive = open(bytes);
  CHECK(archive.format() == ArchiveFormat::python);
  CHECK(archive.root().is<ObjectList>());
  REQUIRE(archive.storages().size() == 1);
  const StorageRecord& storage = archive.storages()[0];
  CHECK(archive.storage_name(0) == "archive/data/0");
  CHECK(bytes.substr(storage.data_offset, 16) == kFloats);
  CHECK(storage.is_stored);
  CHECK_FALSE(storage.swap_bytes);
  CHECK(storage.crc == crc32(0, kFloats.data(), kFloats.size()));
  CHECK(storage_of(archive) == kFloats);
  CHECK(archive.verify_storage(0));
}

TEST_CASE("Archive.OtherWaysToWriteTheSameFileAreRead", "[archive]") {
  RawZip zip = python_zip();
  SECTION("another prefix") {
    for (auto& record : zip.records) record.name.replace(0, 7, "my model \xc3\xa9");
  }
  SECTION("without byteorder") { zip.records.erase(zip.records.begin() + 1); }
  SECTION("names in another case") {
    zip.records[0].name = "archive/DATA.pkl";
    zip.records[2].name = "Archive/Data/0";
  }
  SECTION("storages first") { std::swap(zip.records[0], zip.records[2]); }
  SECTION("with other records") { zip.add("archive/notes.txt", "hello"); }
  SECTION("version of newer archives") { zip.records[3].name = "archive/.data/version"; }
  SECTION("no padding, no descriptors, no Zip64") {
    for (auto& record : zip.records) record.has_descriptor = record.has_padding = false;
    zip.has_zip64 = false;
  }
  CHECK(storage_of(open(zip.bytes())) == kFloats);
}

TEST_CASE("Archive.ACrcThatWasNotComputedIsNotChecked", "[archive]") {
  RawZip zip = python_zip();
  for (auto& record : zip.records) record.crc = 0;
  const std::string bytes = zip.bytes();
  const Archive archive = open(bytes);
  CHECK(storage_of(archive) == kFloats);
  CHECK_FALSE(archive.storages()[0].crc);
  CHECK_FALSE(archive.verify_storage(0));
}

TEST_CASE("Archive.DeflatedStoragesAreRead", "[archive]") {
  for (const auto& vector : kDeflateVectors) {
    const std::string content = vector.content;
    RawZip zip;
    zip.add("archive/data.pkl",
            pickle_of(DType::uint8, DType::uint8, false, content.size(), static_cast<std::int64_t>(content.size())));
    zip.add("archive/data/0", vector.compressed, content);
    zip.add("archive/version", "3\n");
    const std::string bytes = zip.bytes();
    const Archive archive = open(bytes);
    CHECK_FALSE(archive.storages()[0].is_stored);
    CHECK((storage_of(archive) == content));
    CHECK(archive.verify_storage(0));
  }
}

TEST_CASE("Archive.BigEndianNumbersAreTurned", "[archive]") {
  std::string turned;
  const auto check = [&](DType dtype, DType storage_dtype, bool untyped, std::size_t swap) {
    turned.clear();
    for (std::size_t i = 0; i < 16; i += swap) turned += std::string(kFloats.rend() - i - swap, kFloats.rend() - i);
    const auto n_items = static_cast<std::int64_t>(16 / item_size(dtype));
    RawZip zip = python_zip(pickle_of(dtype, storage_dtype, untyped, 16, n_items), turned);
    zip.records[1] = RawZip().add("archive/byteorder", "big");
    const std::string bytes = zip.bytes();
    const Archive archive = open(bytes);
    CHECK(storage_of(archive) == kFloats);
    CHECK(archive.storages()[0].swap_size == swap);
    CHECK(archive.storages()[0].swap_bytes == (swap > 1));
    CHECK(archive.verify_storage(0));
  };
  static_assert(std::endian::native == std::endian::little, "the expected bytes are this order's");
  check(DType::float32, DType::float32, false, 4);
  check(DType::float16, DType::float16, false, 2);
  check(DType::complex64, DType::complex64, false, 4);
  check(DType::complex128, DType::complex128, false, 8);
  check(DType::uint8, DType::uint8, false, 1);
  check(DType::uint16, DType::uint8, true, 2);  // Python leaves these bytes as they are
  check(DType::uint64, DType::uint8, true, 8);
}

TEST_CASE("Archive.WhatTorchSaveWouldNotWriteIsRefused", "[archive]") {
  RawZip zip = python_zip();
  SECTION("no pickle") { zip.records.erase(zip.records.begin()); }
  SECTION("no storage") { zip.records.erase(zip.records.begin() + 2); }
  SECTION("no version") { zip.records.pop_back(); }
  SECTION("a version of 0") { zip.records[3] = RawZip().add("archive/version", "0\n"); }
  SECTION("a version that is no number") { zip.records[3] = RawZip().add("archive/version", "3x\n"); }
  SECTION("a long version") { zip.records[3] = RawZip().add("archive/version", std::string(5000, '9')); }
  SECTION("a longer storage") { zip.records[2] = RawZip().add("archive/data/0", kFloats + "more"); }
  SECTION("a shorter storage") { zip.records[2] = RawZip().add("archive/data/0", kFloats.substr(1)); }
  SECTION("an empty storage") { zip.records[2] = RawZip().add("archive/data/0", ""); }
  SECTION("junk as byteorder") { zip.records[1] = RawZip().add("archive/byteorder", "middle"); }
  SECTION("no folder") {
    for (auto& record : zip.records) record.name = record.name.substr(8);
  }
  SECTION("two folders") { zip.add("other/data.pkl", float_pickle()); }
  SECTION("bytes behind the pickle") { zip.records[0] = RawZip().add("archive/data.pkl", float_pickle() + "."); }
  SECTION("an empty pickle") { zip.records[0] = RawZip().add("archive/data.pkl", ""); }
  SECTION("nothing at all") { zip.records.clear(); }
  SECTION("a damaged pickle") { zip.records[0].crc ^= 1; }
  const std::string bytes = zip.bytes();
  CHECK_THROWS_AS(open(bytes), CorruptError);
}

TEST_CASE("Archive.NewerVersionsAreNamed", "[archive]") {
  RawZip zip = python_zip();
  zip.records[3] = RawZip().add("archive/version", "11\n");
  try {
    open(zip.bytes());
    FAIL("opened");
  } catch (const UnsupportedError& error) {
    const std::string message = error.what();
    CHECK(message.find("11") != std::string::npos);
    CHECK(message.find("10") != std::string::npos);
  }
}

TEST_CASE("Archive.ADamagedStorageIsFoundWhenItIsRead", "[archive]") {
  std::string bytes = python_zip().bytes();
  bytes[bytes.find(kFloats) + 5] ^= 1;
  const Archive archive = open(bytes);
  std::string content(16, '\0');
  CHECK_THROWS_AS(archive.read_storage(0, content.data()), CorruptError);
  CHECK_THROWS_AS(archive.read_storage_pieces(0, [](const void*, std::size_t) {}), CorruptError);
  CHECK_THROWS_AS(archive.verify_storage(0), CorruptError);
}

TEST_CASE("Archive.ACompressedPickleBeyondTheLimitIsNotDecompressed", "[archive]") {
  RawZip zip = python_zip();
  zip.records[0].method = 8;
  zip.records[0].data = std::string(200000, '\0');
  zip.records[0].size = 129 << 20;
  zip.records[0].has_descriptor = false;
  const std::string bytes = zip.bytes();
  CHECK_THROWS_AS(open(bytes), UnsupportedError);
}

TEST_CASE("Archive.TorchSavesOldFilesAreRead", "[archive]") {
  const std::string bytes = LegacyFile().bytes();
  const Archive archive = open(bytes);
  CHECK(archive.format() == ArchiveFormat::python_legacy);
  CHECK(archive.root().is<ObjectTensor>());
  CHECK(storage_of(archive) == kFloats);
  CHECK_FALSE(archive.verify_storage(0));
}

TEST_CASE("Archive.OldFilesThatDoNotFitAreRefused", "[archive]") {
  LegacyFile file;
  SECTION("another version") { file.version[3] = 1; }
  SECTION("a version that is no number") { file.version = std::string("\x80\x02N.", 4); }
  SECTION("another key listed") { file.listed_key = "1"; }
  SECTION("a longer storage") { file.length = le(5, 8); }
  SECTION("a storage of no length") { file.length = le(0, 8); }
  SECTION("a storage of all lengths") { file.length = le(~std::uint64_t{0}, 8); }
  SECTION("a cut storage") { file.content.pop_back(); }
  SECTION("no storage") { file.length = file.content = ""; }
  SECTION("bytes behind it") { file.behind = "x"; }
  const std::string bytes = file.bytes();
  CHECK_THROWS_AS(open(bytes), CorruptError);
}

TEST_CASE("Archive.FilesOfNoFormatAreRefused", "[archive]") {
  const std::string bytes = GENERATE(std::string(), std::string("x"), std::string("PK"), std::string(100, '\0'),
                                     std::string("\x80\x02N.", 4), std::string("hello, this is text"));
  CHECK_THROWS_AS(open(bytes), UnsupportedError);
  CHECK_FALSE(sniff_format(memory_source("x", bytes.data(), bytes.size())));
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  CHECK_THROWS_WITH(open(tar), ContainsSubstring("tar file"));
}

TEST_CASE("Archive.AFileCutAnywhereIsRefused", "[archive]") {
  const std::string bytes = GENERATE(python_zip().bytes(), LegacyFile().bytes());
  REQUIRE(outcome(bytes) != "error");
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    INFO("cut after " << n);
    REQUIRE(outcome(bytes.substr(0, n)) == "error");
  }
}

TEST_CASE("Archive.AnyBitThatIsFlippedIsFoundOrDoesNotMatter", "[archive]") {
  const std::string bytes = python_zip().bytes();
  const std::string whole = outcome(bytes);
  for (std::size_t i = 0; i < bytes.size() * 8; ++i) {
    std::string flipped = bytes;
    flipped[i / 8] = static_cast<char>(flipped[i / 8] ^ 1 << i % 8);
    const std::string found = outcome(flipped);
    INFO("bit " << i % 8 << " of byte " << i / 8);
    REQUIRE((found == "error" || found == whole));
  }
}
