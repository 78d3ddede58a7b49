// SPDX-License-Identifier: Apache-2.0
#include "hash/hash_table.h"

#include <cstring>
#include <random>

namespace ckptio::detail {
namespace {

struct Secret {
  std::uint64_t a, b;
};

const Secret& secret() {
  static const Secret drawn = [] {
    std::random_device random;
    const auto number = [&] { return std::uint64_t{random()} << 32 | random(); };
    return Secret{number() | 1, number() | 1};
  }();
  return drawn;
}

// Both halves of the product, each bit of which depends on all of the factors.
std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// The capital letters among eight bytes as small ones: a byte's top bit tells that it is from 'A' on, but not beyond
// 'Z', and ASCII; a quarter of that is what tells small letters from capital ones.
std::uint64_t fold_case_of_8(std::uint64_t bytes) {
  constexpr std::uint64_t kEach = 0x0101010101010101;
  const std::uint64_t low = bytes & 0x7F * kEach;
  const std::uint64_t from_a = low + (0x80 - 'A') * kEach, beyond_z = low + (0x7F - 'Z') * kEach;
  return bytes | ((from_a ^ beyond_z) & ~bytes & 0x80 * kEach) >> 2;
}

template <class Number>
std::uint64_t load(const char* bytes) {
  Number number = 0;
  std::memcpy(&number, bytes, sizeof number);
  return number;
}

// The last one to eight bytes of a text; all texts of one length differ.
std::uint64_t load_tail(std::string_view text) {
  const char* const end = text.data() + text.size();
  if (text.size() >= 8) return load<std::uint64_t>(end - 8);
  if (text.size() >= 4) return load<std::uint32_t>(text.data()) | load<std::uint32_t>(end - 4) << 32;
  if (text.empty()) return 0;
  return load<std::uint8_t>(text.data()) | load<std::uint8_t>(text.data() + text.size() / 2) << 8 |
         load<std::uint8_t>(end - 1) << 16;
}

template <class Fold>
std::uint64_t hash_text(std::string_view text, Fold fold) {
  const Secret& key = secret();
  std::uint64_t hash = key.a ^ text.size();
  for (std::size_t i = 0; i + 8 < text.size(); i += 8) {
    hash = mix(hash ^ fold(load<std::uint64_t>(text.data() + i)), key.b);
  }
  hash = mix(hash ^ fold(load_tail(text)), key.b);
  return mix(hash ^ key.b, key.a);
}

}  // namespace

std::uint64_t hash_of(std::string_view text) {
  return hash_text(text, [](std::uint64_t bytes) { return bytes; });
}

std::uint64_t hash_ignoring_case(std::string_view text) { return hash_text(text, fold_case_of_8); }

std::uint64_t hash_of(std::uint64_t number) {
  const Secret& key = secret();
  return mix(mix(number ^ key.a, key.b) ^ key.b, key.a);
}

}  // namespace ckptio::detail
