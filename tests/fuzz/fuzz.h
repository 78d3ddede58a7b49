// SPDX-License-Identifier: Apache-2.0
// What the fuzzers do with an input. Each function takes any bytes; it returns if they were refused with a
// ckptio::Error, or accepted and everything that must hold of what was read does hold. Anything else, an exception of
// another type too, is a finding.
//
// Two things call them: libFuzzer (fuzz_main.cpp, one executable for each), and replay_test.cpp, for each input in
// findings/ and corpus/, with every compiler. CMakeLists.txt here says how to run the fuzzers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "codec/byte_source.h"

namespace ckptio::test {

void fuzz_archive(const std::uint8_t* data, std::size_t n_bytes);
void fuzz_legacy(const std::uint8_t* data, std::size_t n_bytes);
void fuzz_pickle(const std::uint8_t* data, std::size_t n_bytes);
void fuzz_safetensors(const std::uint8_t* data, std::size_t n_bytes);
void fuzz_zip(const std::uint8_t* data, std::size_t n_bytes);

// No ckptio::Error, so that nothing takes it for a refusal.
inline void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

// The input as a file. A read outside of it is a finding.
inline detail::ByteSource fuzz_source(const std::uint8_t* data, std::size_t n_bytes) {
  return {"input", n_bytes, [data, n_bytes](std::uint64_t offset, void* destination, std::size_t n_wanted) {
            require(offset <= n_bytes && n_wanted <= n_bytes - offset, "read outside of the source");
            if (n_wanted > 0) std::memcpy(destination, data + offset, n_wanted);
          }};
}

}  // namespace ckptio::test
