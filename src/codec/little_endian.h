// SPDX-License-Identifier: Apache-2.0
// Little-endian numbers in byte strings, on machines of either order and at any alignment.
#pragma once

#include <cstdint>

namespace ckptio::detail {

inline std::uint16_t load_le16(const unsigned char* p) { return static_cast<std::uint16_t>(p[0] | p[1] << 8); }

inline std::uint32_t load_le32(const unsigned char* p) {
  return load_le16(p) | static_cast<std::uint32_t>(load_le16(p + 2)) << 16;
}

inline std::uint64_t load_le64(const unsigned char* p) {
  return load_le32(p) | static_cast<std::uint64_t>(load_le32(p + 4)) << 32;
}

}  // namespace ckptio::detail
