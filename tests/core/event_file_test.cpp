// SPDX-License-Identifier: Apache-2.0
// The bytes of event files. That TensorBoard reads them is tested in tests/interop/tensorboard.
#include "loggers/event_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "ckptio/error.h"
#include "codec/little_endian.h"
#include "support/catch.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

using detail::crc32c;
using detail::EventFile;

std::uint32_t unmasked(std::uint32_t crc) {
  const std::uint32_t rotated = crc - 0xa282ead8u;
  return rotated >> 17 | rotated << 15;
}

// The data of each record; fails the test where a record is not whole.
std::vector<std::string> records_in(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  std::vector<std::string> records;
  for (std::size_t at = 0; at < text.size();) {
    REQUIRE(text.size() - at >= 16);
    const std::uint64_t length = detail::load_le64(bytes + at);
    CHECK(unmasked(detail::load_le32(bytes + at + 8)) == crc32c(bytes + at, 8));
    REQUIRE(text.size() - at - 16 >= length);
    records.push_back(text.substr(at + 12, length));
    CHECK(unmasked(detail::load_le32(bytes + at + 12 + length)) == crc32c(bytes + at + 12, length));
    at += 16 + length;
  }
  return records;
}

TEST_CASE("CRC-32C is that of RFC 3720", "[loggers]") {
  CHECK(crc32c("123456789", 9) == 0xE3069283u);
  CHECK(crc32c(std::string(32, '\0').data(), 32) == 0x8A9136AAu);
  CHECK(crc32c("", 0) == 0);
}

TEST_CASE("An event file is whole after each call, and is made beside others", "[loggers]") {
  const TempFolder folder;
  EventFile first(folder.path()), second(folder.path());
  CHECK(first.path() != second.path());
  CHECK_THAT(std::filesystem::path(first.path()).filename().string(), StartsWith("events.out.tfevents."));
  REQUIRE(records_in(first.path()).size() == 1);
  CHECK_THAT(records_in(first.path())[0], EndsWith("\x1a\x0d"
                                                   "brain.Event:2"));

  first.add_start(300);
  first.add_scalars({}, 300);
  first.add_scalars({{"a", 0.5}, {"b", -1}}, 300);
  const auto records = records_in(first.path());
  REQUIRE(records.size() == 3);
  // step = 300, session_log.status = START
  CHECK(records[1].substr(9) == std::string("\x10\xac\x02\x3a\x02\x08\x01", 7));
  // step = 300, summary of two values: a tag and a float32 each
  CHECK(records[2].substr(9) == std::string("\x10\xac\x02\x2a\x14\x0a\x08\x0a\x01"
                                            "a\x15\x00\x00\x00\x3f\x0a\x08\x0a\x01"
                                            "b\x15\x00\x00\x80\xbf",
                                            25));
  CHECK(records_in(second.path()).size() == 1);
}

TEST_CASE("An event file that can't be made is an IoError", "[loggers]") {
  const TempFolder folder;
  CHECK_THROWS_AS(EventFile(folder / "nowhere"), IoError);
}

}  // namespace
}  // namespace ckptio::test
