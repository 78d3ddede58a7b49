// SPDX-License-Identifier: Apache-2.0
// PickleInput: the bytes of a pickle, read in order through a window, so that what follows it in the source (gigabytes
// of storages in old files) is never loaded.
//
// Threads: one at a time. Errors: CorruptError through throw_corrupt, at the byte where reading began.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codec/byte_source.h"

namespace ckptio::detail {

class PickleInput {
 public:
  PickleInput(const ByteSource& source, std::uint64_t begin);

  std::uint64_t offset() const { return offset_; }  // in the source, of the next byte
  std::uint64_t n_left() const { return source_.size - offset_; }

  // The next bytes, without taking them: `n_most` of them, a few hundred at most, or as many as there are. Valid until
  // the next call.
  std::string_view peek(std::size_t n_most) {
    if (n_most > n_left()) n_most = static_cast<std::size_t>(n_left());
    if (n_most > window_.size() - position_) fill(n_most);
    return {reinterpret_cast<const char*>(window_.data() + position_), n_most};
  }

  // The next `n_bytes` bytes, at most 64, or what peek() gave; valid until the next call. Null if there are fewer.
  const unsigned char* take(std::size_t n_bytes) {
    if (n_bytes > window_.size() - position_ && !fill(n_bytes)) return nullptr;
    const unsigned char* bytes = window_.data() + position_;
    position_ += n_bytes;
    offset_ += n_bytes;
    return bytes;
  }

  // Exactly `n_bytes` bytes. Requires: n_bytes <= n_left().
  std::string take_string(std::size_t n_bytes);

  // The bytes up to the next '\n', which is skipped. False if there is none within kMaxLineBytes.
  bool take_line(std::string& line);

 private:
  bool fill(std::size_t n_bytes);

  const ByteSource& source_;
  std::uint64_t offset_;
  std::vector<unsigned char> window_;
  std::size_t position_ = 0;
};

}  // namespace ckptio::detail
