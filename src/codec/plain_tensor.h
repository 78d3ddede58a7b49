// SPDX-License-Identifier: Apache-2.0
// What picklers write for a dense tensor, recognised as a whole: some forty opcodes that make ten objects, of which
// nothing else in the file uses any. A model has thousands of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ckptio::detail {

// The arguments of torch._utils._rebuild_tensor_v2, and the call:
//   (('storage', class, key, location, n_elements) as a persistent id, offset, sizes, strides, requires_grad,
//    OrderedDict())
struct PlainTensor {
  static constexpr std::size_t kMaxDims = 8;
  static constexpr std::size_t kMaxBytes = 512;  // of its opcodes
  struct Dims {
    std::array<std::int64_t, kMaxDims> values;  // the first n
    std::size_t n = 0;
  };

  // Entries of the memo.
  std::uint32_t storage_word = 0, storage_class = 0, location = 0, ordered_dict = 0;
  std::string_view key;  // where it stands in the pickle
  std::int64_t n_elements = 0, offset = 0;
  Dims sizes, strides;
  bool requires_grad = false;
  std::size_t persistent_id_at = 0;  // where BINPERSID stands
  std::size_t n_bytes = 0;           // the last is REDUCE
};

// The one that begins at the first byte, or nullopt: tensors may be written in other ways.
std::optional<PlainTensor> match_plain_tensor(std::string_view opcodes);

}  // namespace ckptio::detail
