// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ckptio/value.h"

namespace ckptio {

namespace {

// Drops leading octets that only repeat the sign.
void shorten(std::vector<std::uint8_t>& octets) {
  while (octets.size() > 1) {
    const bool sign = (octets[octets.size() - 2] & 0x80) != 0;
    if (octets.back() != (sign ? 0xff : 0x00)) return;
    octets.pop_back();
  }
  if (octets.size() == 1 && octets[0] == 0) octets.clear();
}

void negate(std::vector<std::uint8_t>& octets) {
  unsigned carry = 1;
  for (std::uint8_t& octet : octets) {
    carry += static_cast<std::uint8_t>(~octet);
    octet = static_cast<std::uint8_t>(carry);
    carry >>= 8;
  }
}

bool is_negative(const std::vector<std::uint8_t>& octets) { return !octets.empty() && (octets.back() & 0x80) != 0; }

}  // namespace

BigInt::BigInt(std::uint64_t value) {
  for (int i = 0; i < 8; ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  bytes_.push_back(0);
  shorten(bytes_);
}

BigInt::BigInt(std::string_view decimal) {
  std::string_view digits = decimal;
  const bool negative = !digits.empty() && digits.front() == '-';
  if (!digits.empty() && (digits.front() == '-' || digits.front() == '+')) digits.remove_prefix(1);
  const bool all_digits = std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (digits.empty() || !all_digits) throw ValueError("not a decimal integer: '" + std::string(decimal) + "'");
  for (const char digit : digits) {
    unsigned carry = static_cast<unsigned>(digit - '0');
    for (std::uint8_t& octet : bytes_) {
      carry += octet * 10u;
      octet = static_cast<std::uint8_t>(carry);
      carry >>= 8;
    }
    if (carry != 0) bytes_.push_back(static_cast<std::uint8_t>(carry));
  }
  bytes_.push_back(0);
  if (negative) negate(bytes_);
  shorten(bytes_);
}

BigInt BigInt::from_twos_complement(std::vector<std::uint8_t> little_endian) {
  BigInt result;
  result.bytes_ = std::move(little_endian);
  shorten(result.bytes_);
  return result;
}

std::string BigInt::to_string() const {
  std::vector<std::uint8_t> magnitude = bytes_;
  const bool negative = is_negative(bytes_);
  if (negative) {
    magnitude.push_back(0xff);  // room for the magnitude of the most negative number
    negate(magnitude);
  }
  std::string digits;
  while (!magnitude.empty()) {
    unsigned remainder = 0;
    for (std::size_t i = magnitude.size(); i-- > 0;) {
      const unsigned dividend = remainder * 256 + magnitude[i];
      magnitude[i] = static_cast<std::uint8_t>(dividend / 10);
      remainder = dividend % 10;
    }
    while (!magnitude.empty() && magnitude.back() == 0) magnitude.pop_back();
    digits.push_back(static_cast<char>('0' + remainder));
  }
  if (digits.empty()) return "0";
  if (negative) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::optional<std::int64_t> BigInt::to_int64() const noexcept {
  if (bytes_.size() > 8) return std::nullopt;
  std::uint64_t value = is_negative(bytes_) ? ~std::uint64_t{0} : 0;
  for (std::size_t i = bytes_.size(); i-- > 0;) value = (value << 8) | bytes_[i];
  return static_cast<std::int64_t>(value);
}

std::optional<std::uint64_t> BigInt::to_uint64() const noexcept {
  if (is_negative(bytes_) || bytes_.size() > 9 || (bytes_.size() == 9 && bytes_[8] != 0)) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = std::min<std::size_t>(bytes_.size(), 8); i-- > 0;) value = (value << 8) | bytes_[i];
  return value;
}

}  // namespace ckptio
