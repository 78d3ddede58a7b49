// SPDX-License-Identifier: Apache-2.0
// TextBlock: keeps short texts one behind the other, for thousands that live and die together.
// Threads: one at a time; any number may read what is in it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace ckptio::detail {

class TextBlock {
 public:
  // A copy that lives as long as this object, or the one that this is moved to.
  std::string_view add(std::string_view text) {
    if (blocks_.empty() || n_left_ < text.size()) add_block(std::max(kBlockBytes, text.size()));
    char* const copy = blocks_.back().get() + (n_bytes_ - n_left_);
    std::copy(text.begin(), text.end(), copy);
    n_left_ -= text.size();
    return {copy, text.size()};
  }

 private:
  static constexpr std::size_t kBlockBytes = std::size_t{64} << 10;

  void add_block(std::size_t n_bytes) {
    std::unique_ptr<char[]> block(new char[n_bytes]);
    blocks_.push_back(std::move(block));
    n_bytes_ = n_left_ = n_bytes;
  }

  std::vector<std::unique_ptr<char[]>> blocks_;
  std::size_t n_bytes_ = 0, n_left_ = 0;  // of the last one
};

}  // namespace ckptio::detail
