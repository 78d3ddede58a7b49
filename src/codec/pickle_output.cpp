// SPDX-License-Identifier: Apache-2.0
#include "codec/pickle_output.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "ckptio/error.h"
#include "codec/graph_builder.h"
#include "codec/python2_names.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

constexpr char kBinInt1 = 'K', kBinInt2 = 'M', kBinInt = 'J', kLong1 = '\x8a', kLong4 = '\x8b', kBinFloat = 'G';
constexpr char kBinUnicode = 'X', kBinUnicode8 = '\x8d', kGlobal = 'c', kStackGlobal = '\x93';
constexpr char kBinPut = 'q', kLongBinPut = 'r', kBinGet = 'h', kLongBinGet = 'j';

// Opcode GLOBAL holds two lines; Python reads them as strict UTF-8.
bool fits_line(std::string_view text) {
  for (const char c : text) {
    if (c < ' ' || c > '~') return false;
  }
  return true;
}

// Most text is ASCII, of which eight bytes are looked at in one.
bool is_text(std::string_view text) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080;
  std::uint64_t all = 0;
  std::size_t i = 0;
  for (; text.size() - i >= sizeof(std::uint64_t); i += sizeof(std::uint64_t)) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, text.data() + i, sizeof eight);
    all |= eight;
  }
  for (; i < text.size(); ++i) all |= static_cast<unsigned char>(text[i]);
  return (all & kHighBits) == 0 || is_utf8(std::string(text));
}

}  // namespace

PickleOutput::PickleOutput(std::size_t n_bytes) {
  bytes_.resize(n_bytes);
  raw("\x80\x02");
}

void PickleOutput::grow(std::size_t n_bytes) { bytes_.resize(std::max(n_written_ + n_bytes, 2 * bytes_.size())); }

void PickleOutput::raw(std::string_view bytes) {
  char* place = room(bytes.size());
  if (!bytes.empty()) std::memcpy(place, bytes.data(), bytes.size());
}

void PickleOutput::code_and_number(char code, std::uint64_t value, int n_bytes) {
  char* place = room(1 + static_cast<std::size_t>(n_bytes));
  *place++ = code;
  for (int i = 0; i < n_bytes; ++i) *place++ = static_cast<char>(value >> (8 * i) & 0xFF);
}

void PickleOutput::integer(std::int64_t value) {
  const auto bits = static_cast<std::uint64_t>(value);
  if (value >= 0 && value <= 0xFF) {
    code_and_number(kBinInt1, bits, 1);
  } else if (value >= 0 && value <= 0xFFFF) {
    code_and_number(kBinInt2, bits, 2);
  } else if (value == static_cast<std::int32_t>(value)) {
    code_and_number(kBinInt, bits, 4);
  } else {
    opcode(kLong1);
    code_and_number(8, bits, 8);  // their number, and they
  }
}

void PickleOutput::big_integer(std::string_view twos_complement) {
  const bool is_short = twos_complement.size() <= 0xFF;
  if (twos_complement.size() > 0x7FFFFFFF) throw UnsupportedError("an integer of more than 2 GiB cannot be pickled");
  code_and_number(is_short ? kLong1 : kLong4, twos_complement.size(), is_short ? 1 : 4);
  raw(twos_complement);
}

void PickleOutput::real(double value) {
  opcode(kBinFloat);
  const auto bits = std::bit_cast<std::uint64_t>(value);
  for (int shift = 56; shift >= 0; shift -= 8) opcode(static_cast<char>(bits >> shift & 0xFF));
}

void PickleOutput::text(std::string_view utf8) {
  if (!is_text(utf8)) {
    throw UnsupportedError("a string that is no UTF-8 cannot be written, Python has none: " + quote_name(utf8));
  }
  const bool is_short = utf8.size() <= 0xFFFFFFFF;
  code_and_number(is_short ? kBinUnicode : kBinUnicode8, utf8.size(), is_short ? 4 : 8);
  raw(utf8);
}

// Python writes b"" as a call of `bytes`, which torch.load(weights_only=True) refuses; this it accepts.
void PickleOutput::octets(std::string_view octets) {
  std::string latin1;
  latin1.reserve(octets.size());
  for (const char c : octets) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      latin1 += c;
    } else {
      latin1 += static_cast<char>(0xC0 | byte >> 6);
      latin1 += static_cast<char>(0x80 | (byte & 0x3F));
    }
  }
  global("_codecs", "encode");
  text(latin1);
  repeated_text("latin1");
  close_tuple(2);
  opcode(op::kReduce);
}

// By the name of Python 3, which torch::pickle_load knows; Python takes both.
void PickleOutput::complex(double real_part, double imaginary) {
  plain_global("builtins", "complex");
  real(real_part);
  real(imaginary);
  close_tuple(2);
  opcode(op::kReduce);
}

void PickleOutput::integers(const Dims& values) {
  open_tuple(values.size());
  for (const std::int64_t value : values) integer(value);
  close_tuple(values.size());
}

void PickleOutput::open_tuple(std::size_t n) {
  if (n > 3) opcode(op::kMark);
}

void PickleOutput::close_tuple(std::size_t n) {
  if (n == 0) {
    opcode(op::kEmptyTuple);
  } else if (n <= 3) {
    opcode(static_cast<char>(op::kTuple1 + static_cast<int>(n - 1)));
  } else {
    opcode(op::kTuple);
  }
}

std::uint32_t PickleOutput::repeated_text(std::string_view utf8) {
  if (const auto known = texts_.find(utf8); known != texts_.end()) {
    get(known->second);
    return known->second;
  }
  text(utf8);
  return texts_.emplace(utf8, put()).first->second;
}

std::uint32_t PickleOutput::plain_global(std::string_view module, std::string_view name) {
  const auto [place, is_new] = globals_.try_emplace({std::string(module), std::string(name)}, n_memo_);
  if (!is_new) {
    get(place->second);
    return place->second;
  }
  if (fits_line(module) && fits_line(name)) {
    opcode(kGlobal);
    raw(module), raw("\n"), raw(name), raw("\n");
  } else {
    text(module);
    text(name);
    opcode(kStackGlobal);
  }
  return put();
}

std::uint32_t PickleOutput::global(std::string_view module, std::string_view name) {
  const std::pair key{std::string(module), std::string(name)};
  std::size_t dot = name.find('.');
  if (dot == std::string_view::npos) {
    const auto written = python2_name({module, name});
    if (!written) {
      throw UnsupportedError("the global " + key.first + "." + key.second +
                             " cannot be written: Python takes it for another one in a pickle of protocol 2");
    }
    return plain_global(written->module, written->name);
  }
  if (const auto known = globals_.find(key); known != globals_.end()) {
    get(known->second);
    return known->second;
  }
  // getattr(getattr(module.Outer, 'Inner'), 'Innermost')
  for (const char c : name) {
    if (c == '.') plain_global("__builtin__", "getattr");
  }
  global(module, name.substr(0, dot));
  while (dot != std::string_view::npos) {
    const std::size_t begin = dot + 1;
    dot = name.find('.', begin);
    repeated_text(name.substr(begin, dot - begin));
    close_tuple(2);
    opcode(op::kReduce);
  }
  return globals_[key] = put();
}

std::uint32_t PickleOutput::put() {
  const std::uint32_t index = n_memo_++;
  const bool is_short = index <= 0xFF;
  code_and_number(is_short ? kBinPut : kLongBinPut, index, is_short ? 1 : 4);
  return index;
}

void PickleOutput::get(std::uint32_t index) {
  const bool is_short = index <= 0xFF;
  code_and_number(is_short ? kBinGet : kLongBinGet, index, is_short ? 1 : 4);
}

std::string PickleOutput::finish() {
  opcode(op::kStop);
  bytes_.resize(n_written_);
  return std::move(bytes_);
}

}  // namespace ckptio::detail
