// SPDX-License-Identifier: Apache-2.0
// The layout of a zip file is PyTorch's, and our reader reads what it lays out.
#include "codec/zip_layout.h"

#include <string>

#include "ckptio/error.h"
#include "codec/zip_reader.h"
#include "core/deflate_vectors.h"
#include "support/catch.h"
#include "support/raw_zip.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

using Contents = std::vector<std::pair<std::string, std::string>>;

ZipLayout layout_of(const Contents& contents, std::uint64_t alignment = 64) {
  ZipLayout layout(alignment);
  for (const auto& [name, content] : contents) layout.add(name, content.size());
  return layout;
}

std::string file_of(const Contents& contents, std::uint64_t alignment = 64) {
  const ZipLayout layout = layout_of(contents, alignment);
  std::string file;
  std::vector<std::uint32_t> crcs;
  for (std::size_t i = 0; i < contents.size(); ++i) {
    crcs.push_back(crc32(0, contents[i].second.data(), contents[i].second.size()));
    REQUIRE(file.size() == layout.records()[i].header_offset);
    file += layout.header(i) + contents[i].second + layout.descriptor(i, crcs[i]);
    REQUIRE(file.size() == layout.records()[i].end_offset);
  }
  REQUIRE(file.size() == layout.directory_offset());
  file += layout.directory(crcs);
  REQUIRE(file.size() == layout.file_size());
  return file;
}

Contents some_contents() {
  return {{"x/data.pkl", "pickle"}, {"x/data/0", some_text(5000)}, {"x/data/1", ""}, {"x/version", "3\n"}};
}

}  // namespace

TEST_CASE("ZipLayout.ItsBytesAreThoseOfPyTorchsWriter", "[zip]") {
  RawZip expected;
  for (const auto& [name, content] : some_contents()) expected.add(name, content).has_descriptor = !content.empty();
  std::string bytes = expected.bytes();
  // RawZip writes no system into the Zip64 end record's "made by".
  bytes[bytes.rfind("PK\6\6") + 13] = 3;
  CHECK((file_of(some_contents()) == bytes));
}

TEST_CASE("ZipLayout.WhatItLaysOutIsRead", "[zip]") {
  const std::uint64_t alignment = GENERATE(1, 2, 64, 4096, 32768);
  const std::string file = file_of(some_contents(), alignment);
  const ZipReader reader(memory_source("x.pt", file.data(), file.size()));
  REQUIRE(reader.records().size() == 4);
  CHECK(reader.verify_all());
  for (const ZipRecord& record : reader.records()) CHECK(record.data_offset % alignment == 0);
}

TEST_CASE("ZipLayout.MoreRecordsThan16BitsCountAreRead", "[zip]") {
  Contents contents;
  for (int i = 0; i < 70000; ++i) contents.emplace_back("x/" + std::to_string(i), "");
  const std::string file = file_of(contents);
  const ZipReader reader(memory_source("x.pt", file.data(), file.size()));
  CHECK(reader.records().size() == 70000);
  CHECK(file.substr(file.size() - 14, 4) == "\xff\xff\xff\xff");
}

TEST_CASE("ZipLayout.AnEmptyFileIsAZip", "[zip]") {
  const std::string file = file_of({});
  CHECK(ZipReader(memory_source("x.pt", file.data(), file.size())).records().empty());
}

TEST_CASE("ZipLayout.BeyondFourGigabytesItIsPyTorchs", "[zip]") {
  // Measured: torch.save (2.13) of uint8 tensors of these sizes to big.pt, with a pickle of 419 bytes.
  const std::uint64_t size = (std::uint64_t{1} << 32) + 12345;
  ZipLayout layout;
  layout.add("big/data.pkl", 419);
  layout.add("big/.format_version", 1);
  layout.add("big/.storage_alignment", 2);
  layout.add("big/byteorder", 6);
  const std::uint64_t sizes[] = {100, size, 16, 0xFFFFFFFF, 0, 64};
  for (int i = 0; i < 6; ++i) layout.add("big/data/" + std::to_string(i), sizes[i]);
  layout.add("big/version", 2);
  layout.add("big/.data/serialization_id", 40);
  const std::vector<std::uint64_t> header_offsets = {
      0, 499, 593, 722, 854, 1076, 4294980817, 4294980968, 8589948375, 8589948480, 8589948632, 8589948762};
  for (std::size_t i = 0; i < header_offsets.size(); ++i) {
    INFO(i);
    CHECK(layout.records()[i].header_offset == header_offsets[i]);
    CHECK(layout.records()[i].data_offset % 64 == 0);
  }
  CHECK(layout.directory_offset() == 8589948928);
  CHECK(layout.file_size() == 8589949849);

  const auto zip64 = [](std::uint64_t a, std::uint64_t b, std::uint64_t c) { return le(a, 8) + le(b, 8) + le(c, 8); };
  const auto extra = [&](std::size_t i) { return layout.header(i).substr(30 + layout.records()[i].name.size()); };
  CHECK((extra(5) == le(1, 2) + le(16, 2) + le(size, 8) + le(0, 8) + "FB" + le(12, 2) + std::string(12, 'Z')));
  CHECK((extra(6) == le(1, 2) + le(8, 2) + le(4294980817, 8) + "FB" + le(55, 2) + std::string(55, 'Z')));
  CHECK(
      (extra(7) == le(1, 2) + le(24, 2) + zip64(0xFFFFFFFF, 0, 4294980968) + "FB" + le(16, 2) + std::string(16, 'Z')));
  CHECK((layout.descriptor(4, 7) == le(0x08074b50, 4) + le(7, 4) + le(100, 4) + le(100, 4)));
  CHECK((layout.descriptor(5, 7) == le(0x08074b50, 4) + le(7, 4) + le(size, 8) + le(size, 8)));
  CHECK((layout.descriptor(6, 7) == le(0x08074b50, 4) + le(7, 4) + le(16, 8) + le(16, 8)));
  CHECK(layout.descriptor(8, 0).empty());

  const std::string directory = layout.directory(std::vector<std::uint32_t>(12, 0));
  CHECK((directory.find(le(1, 2) + le(16, 2) + le(size, 8) + le(size, 8)) != std::string::npos));
  CHECK((directory.find(le(1, 2) + le(24, 2) + zip64(0xFFFFFFFF, 0xFFFFFFFF, 4294980968)) != std::string::npos));
  CHECK((directory.substr(directory.size() - 10) == le(823, 4) + le(0xFFFFFFFF, 4) + le(0, 2)));
}

TEST_CASE("ZipLayout.WhatNoZipCanHoldIsRefused", "[zip]") {
  CHECK_THROWS_AS(ZipLayout(0), ValueError);
  CHECK_THROWS_AS(ZipLayout(48), ValueError);
  CHECK_THROWS_AS(ZipLayout(65536), ValueError);
  ZipLayout layout;
  CHECK_THROWS_AS(layout.add(std::string(65536, 'n'), 1), ValueError);
  layout.add(std::string(65535, 'n'), 1);
}
