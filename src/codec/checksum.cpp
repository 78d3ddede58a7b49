// SPDX-License-Identifier: Apache-2.0
// Polynomials over GF(2) of degree below 32 are kept in a uint32_t with x^31 in bit 0 ("reflected"), as the CRC is.
#include "codec/checksum.h"

#include <array>

#include "codec/little_endian.h"

#ifdef CKPTIO_HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

namespace ckptio::detail {
namespace {

constexpr std::uint32_t kPolynomial = 0xEDB88320u;  // x^32 itself is not stored
constexpr std::uint32_t kOne = 0x80000000u;         // x^0

// How many bytes the portable loop takes at a time, with a table for each.
constexpr std::size_t kSlices = 16;
using Tables = std::array<std::array<std::uint32_t, 256>, kSlices>;

constexpr std::uint32_t times_x(std::uint32_t a) { return (a & 1) != 0 ? a >> 1 ^ kPolynomial : a >> 1; }

// tables[k][b]: what byte b contributes when k more bytes follow it.
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = times_x(value);
    tables[0][byte] = value;
  }
  for (std::size_t k = 1; k < kSlices; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t shorter = tables[k - 1][byte];
      tables[k][byte] = shorter >> 8 ^ tables[0][shorter & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

// The four bytes of `word`, of which the last is followed by `n_behind` bytes of the same slice.
std::uint32_t look_up(std::uint32_t word, std::size_t n_behind) {
  return kTables[n_behind + 3][word & 0xFF] ^ kTables[n_behind + 2][word >> 8 & 0xFF] ^
         kTables[n_behind + 1][word >> 16 & 0xFF] ^ kTables[n_behind][word >> 24];
}

std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product = 0;
  for (std::uint32_t bit = kOne; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = times_x(b);
  }
  return product;
}

// x to the power of 8 * n_bytes, by squaring.
std::uint32_t power_of_bytes(std::uint64_t n_bytes) {
  std::uint32_t result = kOne;
  std::uint32_t square = kOne >> 8;
  for (; n_bytes != 0; n_bytes >>= 1) {
    if ((n_bytes & 1) != 0) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result;
}

}  // namespace

std::uint32_t crc32_portable(std::uint32_t crc, const void* data, std::size_t n_bytes) {
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint32_t state = ~crc;
  for (; n_bytes >= kSlices; n_bytes -= kSlices, p += kSlices) {
    state = look_up(state ^ load_le32(p), 12) ^ look_up(load_le32(p + 4), 8) ^ look_up(load_le32(p + 8), 4) ^
            look_up(load_le32(p + 12), 0);
  }
  for (; n_bytes > 0; --n_bytes, ++p) state = state >> 8 ^ kTables[0][(state ^ *p) & 0xFF];
  return ~state;
}

std::uint32_t crc32(std::uint32_t crc, const void* data, std::size_t n_bytes) {
#ifdef CKPTIO_HAVE_LIBDEFLATE
  // It takes a null pointer for "give me the initial value".
  return n_bytes == 0 ? crc : libdeflate_crc32(crc, data, n_bytes);
#else
  return crc32_portable(crc, data, n_bytes);
#endif
}

std::uint32_t crc32_combine(std::uint32_t crc_a, std::uint32_t crc_b, std::uint64_t n_bytes_b) {
  // The CRC is linear: A is shifted past B, and the initial and final inversions cancel.
  return multiply(power_of_bytes(n_bytes_b), crc_a) ^ crc_b;
}

}  // namespace ckptio::detail
