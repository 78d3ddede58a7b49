// SPDX-License-Identifier: Apache-2.0
// Names follow RFC 1951. Which codes are valid follows zlib: a set of code lengths must use up all of its code space,
// except that one with a single code of length 1, or (for distances) with none, may leave room.
#include "codec/inflate.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#ifdef CKPTIO_HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

namespace ckptio::detail {
namespace {

constexpr int kMaxCodeBits = 15;
constexpr int kFastBits = 10;  // codes up to this length are found by one look
constexpr std::size_t kWindowBytes = 32768;
constexpr int kEndOfBlock = 256;

// What ends the decoding of damaged input; never leaves this file.
struct Stop {
  InflateResult result;
};

class BitReader {
 public:
  explicit BitReader(const InflateInput& input) : input_(input) {}

  unsigned take(int n_bits) {
    need(n_bits);
    const auto value = static_cast<unsigned>(bits_ & ((std::uint64_t{1} << n_bits) - 1));
    drop(n_bits);
    return value;
  }

  // The next bits, lowest first, with zeros after the end of the input.
  unsigned peek(int n_bits) {
    fill(n_bits);
    return static_cast<unsigned>(bits_ & ((std::uint64_t{1} << n_bits) - 1));
  }

  // After peek(): takes bits of which some may have been the zeros after the end.
  void drop_peeked(int n_bits) {
    need(n_bits);
    drop(n_bits);
  }

  void drop_to_byte() { drop(n_bits_ % 8); }

  // Requires: at a byte boundary.
  void take_bytes(unsigned char* destination, std::size_t n_bytes) {
    for (; n_bytes > 0 && n_bits_ > 0; --n_bytes) *destination++ = static_cast<unsigned char>(take(8));
    while (n_bytes > 0) {
      if (piece_.n_bytes == 0 && !next_piece()) throw Stop{InflateResult::input_ended};
      const std::size_t n_now = std::min(n_bytes, piece_.n_bytes);
      std::memcpy(destination, piece_.data, n_now);
      piece_.data += n_now;
      piece_.n_bytes -= n_now;
      destination += n_now;
      n_bytes -= n_now;
    }
  }

  // Whole bytes left after the current one?
  bool at_end() { return n_bits_ < 8 && piece_.n_bytes == 0 && !next_piece(); }

 private:
  bool next_piece() {
    if (!ended_) piece_ = input_();
    ended_ = piece_.n_bytes == 0;
    return !ended_;
  }

  void fill(int n_bits) {
    while (n_bits_ < n_bits) {
      if (piece_.n_bytes == 0 && !next_piece()) return;
      bits_ |= static_cast<std::uint64_t>(*piece_.data++) << n_bits_;
      --piece_.n_bytes;
      n_bits_ += 8;
    }
  }

  void need(int n_bits) {
    fill(n_bits);
    if (n_bits_ < n_bits) throw Stop{InflateResult::input_ended};
  }

  void drop(int n_bits) {
    bits_ >>= n_bits;
    n_bits_ -= n_bits;
  }

  const InflateInput& input_;
  InputPiece piece_;
  bool ended_ = false;
  std::uint64_t bits_ = 0;
  int n_bits_ = 0;
};

// One set of Huffman codes, from the length of each symbol's code.
class HuffmanCode {
 public:
  void build(const unsigned char* lengths, int n_symbols, bool may_be_empty);
  int decode(BitReader& bits) const;

 private:
  int decode_slowly(BitReader& bits) const;

  std::array<std::uint16_t, kMaxCodeBits + 1> n_of_length_;
  std::array<std::uint16_t, 288> symbols_;          // by code length, then by symbol, as the codes are
  std::array<std::uint16_t, 1 << kFastBits> fast_;  // by the next bits: symbol * 16 + length, 0 for longer codes
};

void HuffmanCode::build(const unsigned char* lengths, int n_symbols, bool may_be_empty) {
  n_of_length_.fill(0);
  for (int symbol = 0; symbol < n_symbols; ++symbol) ++n_of_length_[lengths[symbol]];
  const int n_coded = n_symbols - n_of_length_[0];
  int space = 1;  // codes of the current length that are not used up
  for (int length = 1; length <= kMaxCodeBits; ++length) {
    space = space * 2 - n_of_length_[length];
    if (space < 0) throw Stop{InflateResult::bad_data};
  }
  const bool may_leave_space = (n_coded == 0 && may_be_empty) || (n_coded == 1 && n_of_length_[1] == 1);
  if (space > 0 && !may_leave_space) throw Stop{InflateResult::bad_data};

  std::array<std::uint16_t, kMaxCodeBits + 2> first_index{}, next_code{};
  for (int length = 1; length <= kMaxCodeBits; ++length) {
    first_index[length + 1] = static_cast<std::uint16_t>(first_index[length] + n_of_length_[length]);
    next_code[length + 1] = static_cast<std::uint16_t>((next_code[length] + n_of_length_[length]) << 1);
  }
  fast_.fill(0);
  for (int symbol = 0; symbol < n_symbols; ++symbol) {
    const int length = lengths[symbol];
    if (length == 0) continue;
    symbols_[first_index[length]++] = static_cast<std::uint16_t>(symbol);
    const unsigned code = next_code[length]++;
    if (length > kFastBits) continue;
    // Codes are stored with their highest bit first, while all else begins with the lowest.
    unsigned reversed = 0;
    for (int bit = 0; bit < length; ++bit) reversed |= (code >> bit & 1) << (length - 1 - bit);
    for (unsigned i = reversed; i < fast_.size(); i += 1u << length) {
      fast_[i] = static_cast<std::uint16_t>(symbol * 16 + length);
    }
  }
}

int HuffmanCode::decode(BitReader& bits) const {
  const unsigned entry = fast_[bits.peek(kFastBits)];
  if (entry == 0) return decode_slowly(bits);
  bits.drop_peeked(static_cast<int>(entry & 15));
  return static_cast<int>(entry >> 4);
}

// Bit by bit: `first` is the first code of the length, `index` that of its symbol.
int HuffmanCode::decode_slowly(BitReader& bits) const {
  int code = 0, first = 0, index = 0;
  for (int length = 1; length <= kMaxCodeBits; ++length) {
    code |= static_cast<int>(bits.take(1));
    const int count = n_of_length_[length];
    if (code - first < count) return symbols_[static_cast<std::size_t>(index + code - first)];
    index += count;
    first = (first + count) << 1;
    code <<= 1;
  }
  throw Stop{InflateResult::bad_data};  // a code that stands for nothing
}

// The output: a buffer that is either all of the destination, or a window of the stream that is handed on when full.
class OutputBuffer {
 public:
  OutputBuffer(unsigned char* data, std::size_t capacity, const InflateOutput* output, std::uint64_t n_expected)
      : data_(data), capacity_(capacity), output_(output), n_left_(n_expected) {}

  void put(int byte) {
    claim(1);
    data_[end_++] = static_cast<unsigned char>(byte);
  }

  void copy_back(std::size_t distance, std::size_t length) {
    if (distance > end_) throw Stop{InflateResult::bad_data};
    claim(length);
    // Byte by byte where the two overlap: a repetition is what that means.
    if (distance >= length) {
      std::memcpy(data_ + end_, data_ + end_ - distance, length);
    } else {
      for (std::size_t i = 0; i < length; ++i) data_[end_ + i] = data_[end_ + i - distance];
    }
    end_ += length;
  }

  // Room for `n_bytes` bytes that the caller fills in.
  unsigned char* reserve(std::size_t n_bytes) {
    claim(n_bytes);
    end_ += n_bytes;
    return data_ + end_ - n_bytes;
  }

  void finish() {
    if (n_left_ > 0) throw Stop{InflateResult::output_too_short};
    if (output_ != nullptr) hand_on(end_);
  }

 private:
  // Makes room, within what the stream may still produce. Requires: `n_bytes` is at most kWindowBytes, or the buffer
  // is the destination.
  void claim(std::size_t n_bytes) {
    if (n_bytes > n_left_) throw Stop{InflateResult::output_too_long};
    n_left_ -= n_bytes;
    if (n_bytes <= capacity_ - end_) return;
    const std::size_t n_old = end_ - kWindowBytes;  // a window must stay, for distances to reach into
    hand_on(n_old);
    std::memmove(data_, data_ + n_old, kWindowBytes);
    end_ = kWindowBytes;
    n_handed_on_ = 0;
  }

  void hand_on(std::size_t end) {
    if (end > n_handed_on_) (*output_)(data_ + n_handed_on_, end - n_handed_on_);
    n_handed_on_ = end;
  }

  unsigned char* data_;
  std::size_t capacity_;
  const InflateOutput* output_;  // null where the buffer is the destination
  std::uint64_t n_left_;         // bytes that may still come
  std::size_t end_ = 0;
  std::size_t n_handed_on_ = 0;
};

struct Codes {
  HuffmanCode literals, distances;
};

// Bases and extra bits of length symbols 257.. and distance symbols 0.., RFC 1951 section 3.2.5.
constexpr std::array<std::uint16_t, 29> kLengthBase = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                                       31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
constexpr std::array<std::uint8_t, 29> kLengthExtra = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                       2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
constexpr std::array<std::uint16_t, 30> kDistanceBase = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                                         33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                                         1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
constexpr std::array<std::uint8_t, 30> kDistanceExtra = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                                         6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};

void read_stored_block(BitReader& bits, OutputBuffer& output) {
  bits.drop_to_byte();
  std::size_t n_bytes = bits.take(16);
  if (bits.take(16) != (n_bytes ^ 0xFFFF)) throw Stop{InflateResult::bad_data};
  while (n_bytes > 0) {
    const std::size_t n_now = std::min(n_bytes, kWindowBytes);
    bits.take_bytes(output.reserve(n_now), n_now);
    n_bytes -= n_now;
  }
}

void build_fixed_codes(Codes& codes) {
  std::array<unsigned char, 288> lengths;
  for (int i = 0; i < 288; ++i) lengths[static_cast<std::size_t>(i)] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
  codes.literals.build(lengths.data(), 288, false);
  lengths.fill(5);
  codes.distances.build(lengths.data(), 32, false);
}

// The code lengths of a block of type 2, which are themselves coded with lengths and repetitions.
void read_dynamic_codes(BitReader& bits, Codes& codes) {
  constexpr std::array<std::uint8_t, 19> kOrder = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  const int n_literals = static_cast<int>(bits.take(5)) + 257;
  const int n_distances = static_cast<int>(bits.take(5)) + 1;
  const int n_lengths = static_cast<int>(bits.take(4)) + 4;
  if (n_literals > 286 || n_distances > 30) throw Stop{InflateResult::bad_data};
  std::array<unsigned char, 19> code_lengths{};
  for (int i = 0; i < n_lengths; ++i)
    code_lengths[kOrder[static_cast<std::size_t>(i)]] = static_cast<unsigned char>(bits.take(3));
  codes.literals.build(code_lengths.data(), 19, false);  // borrowed for the lengths of the real ones

  std::array<unsigned char, 286 + 30> lengths{};
  const int n_all = n_literals + n_distances;
  for (int i = 0; i < n_all;) {
    const int symbol = codes.literals.decode(bits);
    if (symbol < 16) {
      lengths[static_cast<std::size_t>(i++)] = static_cast<unsigned char>(symbol);
      continue;
    }
    if (symbol == 16 && i == 0) throw Stop{InflateResult::bad_data};
    const unsigned char value = symbol == 16 ? lengths[static_cast<std::size_t>(i - 1)] : 0;
    const int n = symbol == 16   ? 3 + static_cast<int>(bits.take(2))
                  : symbol == 17 ? 3 + static_cast<int>(bits.take(3))
                                 : 11 + static_cast<int>(bits.take(7));
    if (n > n_all - i) throw Stop{InflateResult::bad_data};
    std::fill_n(lengths.begin() + i, n, value);
    i += n;
  }
  if (lengths[kEndOfBlock] == 0) throw Stop{InflateResult::bad_data};
  codes.literals.build(lengths.data(), n_literals, false);
  codes.distances.build(lengths.data() + n_literals, n_distances, true);
}

void read_coded_block(BitReader& bits, OutputBuffer& output, const Codes& codes) {
  for (;;) {
    const int symbol = codes.literals.decode(bits);
    if (symbol < kEndOfBlock) {
      output.put(symbol);
      continue;
    }
    if (symbol == kEndOfBlock) return;
    const auto l = static_cast<std::size_t>(symbol - 257);
    if (l >= kLengthBase.size()) throw Stop{InflateResult::bad_data};
    const std::size_t length = kLengthBase[l] + bits.take(kLengthExtra[l]);
    const auto d = static_cast<std::size_t>(codes.distances.decode(bits));
    if (d >= kDistanceBase.size()) throw Stop{InflateResult::bad_data};
    output.copy_back(kDistanceBase[d] + bits.take(kDistanceExtra[d]), length);
  }
}

InflateResult run(const InflateInput& input, OutputBuffer& output) try {
  BitReader bits(input);
  const auto codes = std::make_unique<Codes>();  // some 5 KB, more than a stack frame should have
  for (bool is_last = false; !is_last;) {
    is_last = bits.take(1) != 0;
    const unsigned type = bits.take(2);
    if (type == 3) return InflateResult::bad_data;
    if (type == 0) {
      read_stored_block(bits, output);
      continue;
    }
    if (type == 1) build_fixed_codes(*codes);
    if (type == 2) read_dynamic_codes(bits, *codes);
    read_coded_block(bits, output, *codes);
  }
  output.finish();
  return bits.at_end() ? InflateResult::ok : InflateResult::input_left;
} catch (const Stop& stop) {
  return stop.result;
}

}  // namespace

const char* describe(InflateResult result) {
  switch (result) {
    case InflateResult::ok:
      return "the compressed data is valid";
    case InflateResult::bad_data:
      return "the compressed data is damaged";
    case InflateResult::input_ended:
      return "the compressed data ends too early";
    case InflateResult::input_left:
      return "the compressed data is followed by other bytes";
    case InflateResult::output_too_long:
      return "the compressed data holds more than the size claimed";
    case InflateResult::output_too_short:
      return "the compressed data holds less than the size claimed";
  }
  return "unknown";
}

InflateResult inflate_portable(const void* source, std::size_t n_source, void* destination, std::size_t n_destination) {
  bool given = false;
  const InflateInput input = [&]() -> InputPiece {
    if (given) return {};
    given = true;
    return {static_cast<const unsigned char*>(source), n_source};
  };
  OutputBuffer output(static_cast<unsigned char*>(destination), n_destination, nullptr, n_destination);
  return run(input, output);
}

InflateResult inflate_stream(const InflateInput& input, const InflateOutput& output, std::uint64_t n_expected) {
  // A window behind, and at least as much room ahead.
  std::vector<unsigned char> buffer(4 * kWindowBytes);
  OutputBuffer window(buffer.data(), buffer.size(), &output, n_expected);
  return run(input, window);
}

#ifdef CKPTIO_HAVE_LIBDEFLATE
InflateResult inflate(const void* source, std::size_t n_source, void* destination, std::size_t n_destination) {
  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> decompressor(
      libdeflate_alloc_decompressor(), &libdeflate_free_decompressor);
  if (!decompressor) throw std::bad_alloc();
  std::size_t n_consumed = 0;
  const libdeflate_result result = libdeflate_deflate_decompress_ex(decompressor.get(), source, n_source, destination,
                                                                    n_destination, &n_consumed, nullptr);
  if (result == LIBDEFLATE_SHORT_OUTPUT) return InflateResult::output_too_short;
  if (result == LIBDEFLATE_INSUFFICIENT_SPACE) return InflateResult::output_too_long;
  if (result != LIBDEFLATE_SUCCESS) return InflateResult::bad_data;
  return n_consumed == n_source ? InflateResult::ok : InflateResult::input_left;
}
#else
InflateResult inflate(const void* source, std::size_t n_source, void* destination, std::size_t n_destination) {
  return inflate_portable(source, n_source, destination, n_destination);
}
#endif

}  // namespace ckptio::detail
