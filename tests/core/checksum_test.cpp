// SPDX-License-Identifier: Apache-2.0
#include "codec/checksum.h"

#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/random_seed.h"

using namespace ckptio::detail;

namespace {

// The definition, bit by bit.
std::uint32_t crc_by_definition(const unsigned char* data, std::size_t n_bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (std::size_t i = 0; i < n_bytes; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
  }
  return ~crc;
}

}  // namespace

TEST_CASE("Checksum.KnownVectors", "[codec]") {
  for (const auto function : {&crc32, &crc32_portable}) {
    CHECK(function(0, nullptr, 0) == 0);
    CHECK(function(0, "a", 1) == 0xE8B7BE43);
    CHECK(function(0, "123456789", 9) == 0xCBF43926);
    CHECK(function(0, "The quick brown fox jumps over the lazy dog", 43) == 0x414FA339);
    const std::string zeros(1 << 20, '\0');
    CHECK(function(0, zeros.data(), zeros.size()) == 0xA738EA1C);
    CHECK(function(0x12345678, nullptr, 0) == 0x12345678);
  }
}

TEST_CASE("Checksum.EveryLengthAndAlignmentAgreesWithTheDefinition", "[codec]") {
  std::mt19937 random(ckptio::test::random_seed());
  std::vector<unsigned char> bytes(400);
  for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
  for (std::size_t begin = 0; begin < 17; ++begin) {
    for (std::size_t n_bytes = 0; n_bytes < 300; ++n_bytes) {
      const std::uint32_t expected = crc_by_definition(&bytes[begin], n_bytes);
      REQUIRE(crc32(0, &bytes[begin], n_bytes) == expected);
      REQUIRE(crc32_portable(0, &bytes[begin], n_bytes) == expected);
    }
  }
}

TEST_CASE("Checksum.PiecesGiveTheSameAsTheWholeAndCombine", "[codec]") {
  std::mt19937 random(ckptio::test::random_seed());
  std::vector<unsigned char> bytes(100'000);
  for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
  const std::uint32_t whole = crc32(0, bytes.data(), bytes.size());
  for (int i = 0; i < 200; ++i) {
    const std::size_t cut = i < 3 ? std::size_t(i) * 50'000 : random() % bytes.size();
    const std::uint32_t a = crc32(0, bytes.data(), cut);
    const std::uint32_t b = crc32_portable(0, bytes.data() + cut, bytes.size() - cut);
    REQUIRE(crc32_portable(a, bytes.data() + cut, bytes.size() - cut) == whole);
    REQUIRE(crc32_combine(a, b, bytes.size() - cut) == whole);
  }
}

TEST_CASE("Checksum.CombiningReachesBeyondFourGigabytes", "[codec]") {
  // crc("a" + 2^33 zeros), by doubling the zeros.
  std::uint32_t zeros = crc32(0, "\0", 1);
  for (int power = 0; power < 33; ++power) zeros = crc32_combine(zeros, zeros, std::uint64_t{1} << power);
  const std::uint32_t a = crc32(0, "a", 1);
  const std::uint64_t n_half = std::uint64_t{1} << 32;
  std::uint32_t half = crc32(0, "\0", 1);
  for (int power = 0; power < 32; ++power) half = crc32_combine(half, half, std::uint64_t{1} << power);
  CHECK(crc32_combine(a, zeros, 2 * n_half) == crc32_combine(crc32_combine(a, half, n_half), half, n_half));
}
