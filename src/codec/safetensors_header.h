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

// PyTorch's operators take no more (at::dim_bitset_size).
inline constexpr std::size_t kMaxSafetensorsDimensions = 64;

// A header of 100 MB could describe several GiB of objects. So each is counted, with some room for what vectors
// reserve and what is made of it later; within the limit there may be half a million tensors. The writer keeps to it.
inline constexpr std::uint64_t kMaxSafetensorsObjectBytes = 512ull << 20;

// Of a tensor, its storage and the entries that name them; a name is kept in several places.
inline std::uint64_t safetensors_tensor_cost(std::size_t name_bytes) { return 1024 + 4 * name_bytes; }
// Of a string, a name or what it names.
inline std::uint64_t safetensors_metadata_cost(std::size_t text_bytes) { return 80 + 4 * text_bytes; }
// In the header's shape, in sizes and in strides.
inline constexpr std::uint64_t kSafetensorsDimensionCost = 32;

}  // namespace ckptio::detail
