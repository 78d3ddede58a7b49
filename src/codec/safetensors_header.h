// SPDX-License-Identifier: Apache-2.0
// The JSON of a safetensors file: what its header says, not yet held against the file. safetensors_file.h is the one to
// use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/byte_source.h"
#include "codec/safetensors_file.h"

namespace ckptio::detail {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::float32;
  std::vector<std::uint64_t> shape;  // as it stands there: of F4 it counts elements of half a byte
  std::uint64_t begin = 0, end = 0;  // in the bytes behind the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the header's order; names differ
  std::optional<SafetensorsMetadata> metadata;
};

// `text`: the header; it begins at byte 8 of the file. Names the byte of what is wrong.
SafetensorsHeader parse_safetensors_header(const ByteSource& source, std::string_view text);

// Where a dtype that the format has stands in the library's order, by which files are sorted: narrow ones first.
int safetensors_dtype_rank(DType dtype);

inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

}  // namespace ckptio::detail
