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
    if (n_left_ < text.size()) {
      n_left_ = std::max(kBlockBytes, text.size());
      next_ = blocks_.emplace_back(new char[n_left_]).get();
    }
    std::copy(text.begin(), text.end(), next_);
    const std::string_view copy(next_, text.size());
    next_ += text.size();
    n_left_ -= text.size();
    return copy;
  }

 private:
  static constexpr std::size_t kBlockBytes = std::size_t{64} << 10;

  std::vector<std::unique_ptr<char[]>> blocks_;
  char* next_ = nullptr;
  std::size_t n_left_ = 0;
};

}  // namespace ckptio::detail
