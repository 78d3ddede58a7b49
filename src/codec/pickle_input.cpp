// SPDX-License-Identifier: Apache-2.0
#include "codec/pickle_input.h"

#include <algorithm>

#include "codec/limits.h"

namespace ckptio::detail {
namespace {

// Most pickles fit in one.
constexpr std::size_t kWindowBytes = 256 << 10;

}  // namespace

PickleInput::PickleInput(const ByteSource& source, std::uint64_t begin) : source_(source), offset_(begin) {}

// Makes at least `n_bytes` bytes stand in the window, or returns false.
bool PickleInput::fill(std::size_t n_bytes) {
  if (n_bytes > n_left()) return false;
  const std::size_t n_kept = window_.size() - position_;
  std::copy(window_.begin() + static_cast<std::ptrdiff_t>(position_), window_.end(), window_.begin());
  const std::size_t n_read = std::min<std::uint64_t>(std::max(kWindowBytes, n_bytes) - n_kept, n_left() - n_kept);
  window_.resize(n_kept + n_read);
  position_ = 0;
  source_.read_at(offset_ + n_kept, window_.data() + n_kept, n_read);
  return true;
}

std::string PickleInput::take_string(std::size_t n_bytes) {
  std::string text(n_bytes, '\0');
  const std::size_t n_here = std::min(n_bytes, window_.size() - position_);
  std::copy_n(window_.begin() + static_cast<std::ptrdiff_t>(position_), n_here, text.begin());
  if (n_here < n_bytes) source_.read_at(offset_ + n_here, text.data() + n_here, n_bytes - n_here);
  position_ += n_here;
  offset_ += n_bytes;
  if (n_here < n_bytes) {
    window_.clear();
    position_ = 0;
  }
  return text;
}

bool PickleInput::take_line(std::string& line) {
  line.clear();
  while (const unsigned char* byte = take(1)) {
    if (*byte == '\n') return true;
    if (line.size() == kMaxLineBytes) return false;
    line += static_cast<char>(*byte);
  }
  return false;
}

}  // namespace ckptio::detail
