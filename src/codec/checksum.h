// SPDX-License-Identifier: Apache-2.0
// CRC-32 as zip files have it (polynomial 0x04C11DB7 reflected, as in zlib, PNG and Ethernet).
//
// It finds damage, not forgery. Threads: safe, nothing is shared.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ckptio::detail {

// Extends `crc`, that of the bytes before (0 for none), by `n_bytes` bytes at `data`. With libdeflate where the build
// has it, portable otherwise.
std::uint32_t crc32(std::uint32_t crc, const void* data, std::size_t n_bytes);

// The same without libdeflate; always compiled.
std::uint32_t crc32_portable(std::uint32_t crc, const void* data, std::size_t n_bytes);

// The CRC of A followed by B from the CRCs of both and the length of B: threads may take a part each. About a
// microsecond, whatever the length.
std::uint32_t crc32_combine(std::uint32_t crc_a, std::uint32_t crc_b, std::uint64_t n_bytes_b);

}  // namespace ckptio::detail
