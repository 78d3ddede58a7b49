// SPDX-License-Identifier: Apache-2.0
#include "codec/inflate.h"

#include <random>
#include <string>
#include <vector>

#include "core/deflate_vectors.h"
#include "support/catch.h"
#include "support/random_seed.h"

using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

struct Inflated {
  InflateResult result;
  std::string content;
};

using Function = InflateResult (*)(const void*, std::size_t, void*, std::size_t);

// Exactly sized pieces of memory of their own, so that a sanitizer sees one byte too many.
Inflated run(Function function, const std::string& compressed, std::size_t size) {
  const std::vector<char> source(compressed.begin(), compressed.end());
  std::vector<char> destination(size);
  const InflateResult result = function(source.data(), source.size(), destination.data(), destination.size());
  return {result, std::string(destination.begin(), destination.end())};
}

Inflated run_stream(const std::string& compressed, std::size_t size, std::size_t n_piece) {
  std::size_t position = 0;
  std::vector<unsigned char> piece;
  Inflated inflated;
  inflated.result = inflate_stream(
      [&]() -> InputPiece {
        const std::string next = compressed.substr(position, n_piece);
        piece.assign(next.begin(), next.end());
        position += piece.size();
        return {piece.data(), piece.size()};
      },
      [&](const unsigned char* data, std::size_t n) {
        inflated.content.append(reinterpret_cast<const char*>(data), n);
      },
      size);
  return inflated;
}

// Deflate's order: the first bit is the lowest of the first byte, numbers begin with their lowest bit.
class BitWriter {
 public:
  BitWriter& put(unsigned value, int n_bits) {
    for (int i = 0; i < n_bits; ++i, ++n_bits_) {
      if (n_bits_ % 8 == 0) bytes_ += '\0';
      bytes_.back() |= static_cast<char>((value >> i & 1) << (n_bits_ % 8));
    }
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  int n_bits_ = 0;
};

// The head of a last, dynamic block with 257 literal codes, 1 distance code and all 19 lengths of length codes, of
// which `lengths` gives the first ones in the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1 15.
BitWriter dynamic_block(const std::vector<unsigned>& lengths) {
  BitWriter bits;
  bits.put(1, 1).put(2, 2).put(0, 5).put(0, 5).put(15, 4);
  for (std::size_t i = 0; i < 19; ++i) bits.put(i < lengths.size() ? lengths[i] : 0, 3);
  return bits;
}

void check_fails(const std::string& compressed, std::size_t size, InflateResult expected) {
  CHECK(run(inflate_portable, compressed, size).result == expected);
  CHECK(run(inflate, compressed, size).result != InflateResult::ok);
  CHECK(run_stream(compressed, size, 3).result == expected);
}

}  // namespace

TEST_CASE("Inflate.WhatZlibMadeComesBack", "[codec]") {
  for (const auto& vector : kDeflateVectors) {
    INFO(vector.name);
    for (const Function function : {&inflate, &inflate_portable}) {
      const Inflated inflated = run(function, vector.compressed, vector.content.size());
      CHECK(inflated.result == InflateResult::ok);
      CHECK((inflated.content == vector.content));
    }
    for (const std::size_t n_piece : {1, 7, 100'000}) {
      const Inflated inflated = run_stream(vector.compressed, vector.content.size(), n_piece);
      CHECK(inflated.result == InflateResult::ok);
      CHECK((inflated.content == vector.content));
    }
  }
}

TEST_CASE("Inflate.AnotherSizeThanClaimedIsRefused", "[codec]") {
  for (const auto& vector : kDeflateVectors) {
    INFO(vector.name);
    check_fails(vector.compressed, vector.content.size() + 1, InflateResult::output_too_short);
    if (!vector.content.empty())
      check_fails(vector.compressed, vector.content.size() - 1, InflateResult::output_too_long);
  }
}

TEST_CASE("Inflate.EveryTruncationIsRefused", "[codec]") {
  for (const auto& vector : kDeflateVectors) {
    INFO(vector.name);
    // The large one costs most of the time and has little to cut.
    const std::size_t step = vector.content.size() > 100'000 ? 97 : 1;
    for (std::size_t n = 0; n < vector.compressed.size(); n += step) {
      const std::string part = vector.compressed.substr(0, n);
      REQUIRE(run(inflate_portable, part, vector.content.size()).result == InflateResult::input_ended);
      REQUIRE(run(inflate, part, vector.content.size()).result != InflateResult::ok);
    }
  }
}

TEST_CASE("Inflate.BytesBehindTheStreamAreRefused", "[codec]") {
  for (const auto& vector : kDeflateVectors) {
    INFO(vector.name);
    for (const Function function : {&inflate, &inflate_portable}) {
      CHECK(run(function, vector.compressed + "x", vector.content.size()).result == InflateResult::input_left);
    }
    CHECK(run_stream(vector.compressed + "x", vector.content.size(), 1).result == InflateResult::input_left);
  }
}

TEST_CASE("Inflate.InvalidStreamsAreRefused", "[codec]") {
  // The first byte holds, from its lowest bit: last block, two bits of type.
  check_fails(bytes_of("\x07"), 10, InflateResult::bad_data);                      // block type 3
  check_fails(bytes_of("\x01\x05\x00\x00\x00hello"), 5, InflateResult::bad_data);  // stored, length not repeated
  check_fails(bytes_of("\x03\x02"), 3, InflateResult::bad_data);                   // fixed: a distance before the start
  check_fails(bytes_of("\xfd\xff\xff\xff\xff\xff\xff"), 100, InflateResult::bad_data);  // dynamic: too many codes
  check_fails(bytes_of("\x05\x00\x00\x00\x00\x00\x00"), 100,
              InflateResult::bad_data);  // dynamic: no code lengths at all
}

TEST_CASE("Inflate.CodesThatCannotBeAreRefused", "[codec]") {
  const auto refused = [](BitWriter bits) { check_fails(bits.bytes(), 100, InflateResult::bad_data); };
  refused(dynamic_block({1, 1, 1}));                   // more codes than their lengths allow
  refused(dynamic_block({2, 2}));                      // half of the codes stand for nothing
  refused(dynamic_block({1, 1}).put(0, 1).put(0, 2));  // repeats the length before the first
  // Zeros only, 138 and 120 of them: no code for the end of the block.
  refused(dynamic_block({0, 1, 1}).put(1, 1).put(127, 7).put(1, 1).put(109, 7));
  // 138 and 138 zeros for 258 codes.
  refused(dynamic_block({0, 1, 1}).put(1, 1).put(127, 7).put(1, 1).put(127, 7));
}

TEST_CASE("Inflate.ABombStopsAtTheClaimedSize", "[codec]") {
  const auto& zeros = kDeflateVectors[6];
  REQUIRE(zeros.content.size() == 1'000'000);
  check_fails(zeros.compressed, 1000, InflateResult::output_too_long);
  check_fails(zeros.compressed, 0, InflateResult::output_too_long);
}

TEST_CASE("Inflate.DamagedStreamsNeitherCrashNorDisagree", "[codec]") {
  std::mt19937 random(random_seed());
  for (int i = 0; i < 20'000; ++i) {
    const auto& vector = kDeflateVectors[random() % 6];
    std::string damaged = vector.compressed;
    const unsigned n_flips = 1 + random() % 3;
    for (unsigned flip = 0; flip < n_flips; ++flip)
      damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
    const std::size_t size = vector.content.size();
    const Inflated ours = run(inflate_portable, damaged, size);
    const Inflated other = run(inflate, damaged, size);
    if (ours.result != InflateResult::ok) continue;
    // libdeflate accepts a little more, never less and never otherwise.
    REQUIRE(other.result == InflateResult::ok);
    REQUIRE((other.content == ours.content));
    REQUIRE((run_stream(damaged, size, 5).content == ours.content));
  }
}

TEST_CASE("Inflate.RandomBytesNeitherCrashNorLoop", "[codec]") {
  std::mt19937 random(random_seed());
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random() % 200, '\0');
    for (auto& byte : bytes) byte = static_cast<char>(random());
    if (!bytes.empty() && i % 2 == 0) bytes[0] = static_cast<char>((bytes[0] & ~7) | 5);  // a dynamic block
    run(inflate_portable, bytes, random() % 2000);
    run(inflate, bytes, random() % 2000);
  }
}
