// SPDX-License-Identifier: Apache-2.0
// The safetensors format: reads a file's header into inert objects, and plans the file that the library would write.
//
//   8 bytes    N, little-endian
//   N bytes    JSON, begins with '{', may end in blanks: name -> {"dtype", "shape", "data_offsets"}, and
//              "__metadata__", strings by name
//   the rest   the tensors' bytes, little-endian, rows first: each once, no hole, no overlap, nothing behind
//
// Rules and limits: README, "Format", of huggingface/safetensors, and what its library 0.8.0 refuses; names that come
// twice, a blank before '{' and fields the format does not have are refused too. Nothing is read but the header.
// Memory: bounded by named limits, however the header is made. Threads: free functions without state.
// Errors: CorruptError, UnsupportedError (a dtype that PyTorch has not; a build without nlohmann/json).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codec/archive.h"
#include "codec/byte_source.h"
#include "codec/object.h"

namespace ckptio::detail {

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;  // in the file's order; names differ

struct SafetensorsFile {
  ObjectGraph graph;  // root: ObjectDict, name -> ObjectTensor: dense, contiguous, each with a storage of its own
  std::vector<StorageRecord> storages;  // one for each of graph.storages
  std::optional<SafetensorsMetadata> metadata;
};

// True if the file begins as this format does: a length that a header can have, and '{' behind it.
bool looks_like_safetensors(const ByteSource& source);

SafetensorsFile read_safetensors(const ByteSource& source);

// The format's name for a dtype ("BF16"), or nullopt where it has none (complex32, complex128, quantized, bits).
std::optional<std::string_view> safetensors_dtype_name(DType dtype);

// A tensor to be written.
struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::float32;  // one that the format has
  Dims sizes;                    // PyTorch's: of float4_e2m1fn_x2 they count bytes
};

// Where everything stands in the file to be written.
struct SafetensorsLayout {
  std::string head;                // the bytes before the tensors': length, header, padding to 8
  std::vector<std::size_t> order;  // the tensors in the order of their bytes: by dtype, widest first, then name
  std::vector<std::uint64_t> data_offsets;  // in the file, of each tensor as given
  std::uint64_t file_size = 0;
};

// The same bytes as the library writes for the same tensors and metadata (the library's order of two or more metadata
// entries is random; ours is the given one). ValueError for a name or text that is not UTF-8, a tensor called
// "__metadata__", more than 64 dimensions, and a header longer than the format allows or with more objects than our
// reader takes. Requires: names differ.
SafetensorsLayout lay_out_safetensors(const std::vector<SafetensorsTensor>& tensors,
                                      const std::optional<SafetensorsMetadata>& metadata);

}  // namespace ckptio::detail
