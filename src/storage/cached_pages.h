// SPDX-License-Identifier: Apache-2.0
// CachedPages: which bytes of a file are in the page cache, without reading them.
//
// A value that can be moved. Threads: any number may ask.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace ckptio::detail {

class CachedPages {
 public:
  // Nothing where the system cannot tell.
  static std::optional<CachedPages> of(int fd, std::uint64_t file_size);

  // By a few samples. Also true where the system tells that to the file's owner alone, and we are another.
  // Requires: a range of at least one byte inside the file.
  bool are_mostly_there(std::uint64_t offset, std::uint64_t n_bytes) const;

 private:
  explicit CachedPages(std::shared_ptr<void> mapped) : mapped_(std::move(mapped)) {}
  std::shared_ptr<void> mapped_;  // never touched
};

}  // namespace ckptio::detail
