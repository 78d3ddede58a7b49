// SPDX-License-Identifier: Apache-2.0
// Raw deflate (RFC 1951, no zlib or gzip header), as in zip files, for input that may be hostile.
//
// Both ways below accept a stream only if it ends with its input and holds exactly the size that was claimed. They
// write nothing beyond that size and end after at most (input bits + output bytes) steps. Threads: safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace ckptio::detail {

enum class InflateResult {
  ok,
  bad_data,          // no deflate stream: an invalid block, code, length or distance
  input_ended,       // before the stream did
  input_left,        // the stream ended before its input
  output_too_long,   // the stream holds more than was claimed
  output_too_short,  // less
};

// For messages: "the compressed data ends too early" and the like.
const char* describe(InflateResult result);

// Decompresses the whole of `n_source` bytes into exactly `n_destination` bytes. With libdeflate where the build has
// it, which tells bad_data and input_ended not apart. On failure `destination` holds anything.
InflateResult inflate(const void* source, std::size_t n_source, void* destination, std::size_t n_destination);

// The same without libdeflate; always compiled.
InflateResult inflate_portable(const void* source, std::size_t n_source, void* destination, std::size_t n_destination);

// Gives the next piece of input, of any length above 0; an empty one at the end. It must stay valid until the next
// call.
struct InputPiece {
  const unsigned char* data = nullptr;
  std::size_t n_bytes = 0;
};
using InflateInput = std::function<InputPiece()>;

// Takes the next piece of output; it may throw, which ends the work.
using InflateOutput = std::function<void(const unsigned char* data, std::size_t n_bytes)>;

// Decompresses piece by piece with about 130 KB of memory, whatever the sizes. Never with libdeflate.
InflateResult inflate_stream(const InflateInput& input, const InflateOutput& output, std::uint64_t n_expected);

}  // namespace ckptio::detail
