// SPDX-License-Identifier: Apache-2.0
// PickleOutput: the opcodes of a pickle of protocol 2, one call for each thing to write. PickleWriter decides what.
//
// What protocol 2 has no words for (text beyond 4 GiB, names with line breaks) is written by opcodes of protocol 4:
// Python obeys every opcode in a pickle of any protocol.
// Threads: one at a time. Errors: UnsupportedError for a global that no pickle of protocol 2 can name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "codec/dims.h"

namespace ckptio::detail {

// Python's names of the opcodes.
namespace op {
constexpr char kMark = '(', kStop = '.', kPop = '0', kPopMark = '1', kNone = 'N', kReduce = 'R', kBuild = 'b';
constexpr char kEmptyDict = '}', kEmptyList = ']', kEmptyTuple = ')', kTuple = 't', kAppend = 'a', kAppends = 'e';
constexpr char kSetItem = 's', kSetItems = 'u', kPersistentId = 'Q';
constexpr char kNewObject = '\x81', kTuple1 = '\x85', kTrue = '\x88', kFalse = '\x89';
constexpr char kEmptySet = '\x8f', kAddItems = '\x90', kNewObjectEx = '\x92';  // protocol 4
}  // namespace op

class PickleOutput {
 public:
  // `n_bytes`: about as many as will be written.
  explicit PickleOutput(std::size_t n_bytes = 0);

  void opcode(char code) { *room(1) = code; }
  void none() { opcode(op::kNone); }
  void flag(bool value) { opcode(value ? op::kTrue : op::kFalse); }
  // Beyond 32 bits always in 8 bytes: torch::pickle_load reads no other length.
  void integer(std::int64_t value);
  void big_integer(std::string_view twos_complement);
  void real(double value);
  void text(std::string_view utf8);
  // As protocol 2 writes bytes: a string of the same code points, to be encoded.
  void octets(std::string_view octets);
  void complex(double real, double imaginary);
  void integers(const Dims& values);  // a tuple
  // Closes a tuple of `n` items: those behind a mark if n is above 3.
  void open_tuple(std::size_t n);
  void close_tuple(std::size_t n);

  // Text that comes often: written once. Returns its place in the memo.
  std::uint32_t repeated_text(std::string_view utf8);
  // A module-level name, written once; nested names ("Outer.Inner") by getattr. Returns its place in the memo.
  std::uint32_t global(std::string_view module, std::string_view name);

  // Puts what is on top of the stack into the memo, and gets it from there.
  std::uint32_t put();
  void get(std::uint32_t index);
  std::uint32_t n_memo() const { return n_memo_; }

  std::string finish();

 private:
  // The place of `n_bytes` more.
  char* room(std::size_t n_bytes) {
    if (bytes_.size() - n_written_ < n_bytes) grow(n_bytes);
    char* place = bytes_.data() + n_written_;
    n_written_ += n_bytes;
    return place;
  }
  void grow(std::size_t n_bytes);
  void code_and_number(char code, std::uint64_t value, int n_bytes);  // least significant byte first
  void raw(std::string_view bytes);
  std::uint32_t plain_global(std::string_view module, std::string_view name);

  std::string bytes_;  // longer than what is written
  std::size_t n_written_ = 0;
  std::uint32_t n_memo_ = 0;
  std::map<std::string, std::uint32_t, std::less<>> texts_;
  std::map<std::pair<std::string, std::string>, std::uint32_t> globals_;
};

}  // namespace ckptio::detail
