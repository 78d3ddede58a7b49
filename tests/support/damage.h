// SPDX-License-Identifier: Apache-2.0
// Damage to files, in place: whoever has mapped one sees it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "ckptio/storage/local_storage.h"
#include "support/catch.h"
#include "support/storage_helpers.h"

namespace ckptio::test {

inline void flip_bit(const std::string& path, std::uintmax_t byte) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(byte));
  const char flipped = static_cast<char>(file.get() ^ 1);
  file.seekp(static_cast<std::streamoff>(byte));
  file.put(flipped);
}

// Damages the one place in the file where the elements of `content` stand.
inline void damage(const std::string& path, const at::Tensor& content) {
  const std::string bytes = read_file(LocalStorage(), path);
  const at::Tensor plain = content.contiguous();
  const std::string wanted(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes());
  const std::size_t at = bytes.find(wanted);
  REQUIRE(at != std::string::npos);
  REQUIRE(bytes.find(wanted, at + 1) == std::string::npos);
  flip_bit(path, at + wanted.size() / 2);
}

}  // namespace ckptio::test
