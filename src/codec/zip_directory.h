// SPDX-License-Identifier: Apache-2.0
// The structure of a zip file: finds the end record and the directory, and checks every header against the others.
// ZipReader is the one to use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec/byte_source.h"
#include "codec/zip_reader.h"

namespace ckptio::detail {

// "'name'" for messages: what is no printable ASCII becomes \xNN, and a long name is cut.
std::string quote_name(std::string_view name);

// Throws CorruptError "cannot read 'FILE': <where> at byte <offset>: <what>".
[[noreturn]] void throw_corrupt(const ByteSource& source, const std::string& where, std::uint64_t offset,
                                const std::string& what);

// Throws it for a record of `n_bytes` bytes at `offset` unless its CRC-32 is the expected one; 0 stands for none known.
void check_crc(const ByteSource& source, std::string_view record, std::uint64_t offset, std::uint64_t n_bytes,
               std::uint32_t expected, std::uint32_t found);

// `c` in lower case if it is an ASCII letter: names are compared as bytes, in no one's language.
inline char fold_case(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// All records in the directory's order. Not checked here: equal names.
ZipDirectory read_zip_directory(const ByteSource& source);

}  // namespace ckptio::detail
