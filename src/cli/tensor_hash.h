// SPDX-License-Identifier: Apache-2.0
// TensorHash: SHA-256 of what tensors mean, the same view of a storage once. One thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "cli/storage_bytes.h"
#include "cli/tensor_bytes.h"

namespace ckptio::cli {

class TensorHash {
 public:
  explicit TensorHash(StorageBytes& bytes);

  // In hex. nullopt where it would take too long: expanded tensors (stride 0) may claim any number of elements.
  std::optional<std::string> of(const TensorView& view);

  // Takes `n_bytes` of work off what is left for tensors beyond the file's size; false where there is not so much.
  bool afford(std::uint64_t n_bytes);

 private:
  StorageBytes& bytes_;
  std::uint64_t n_left_;
  std::map<std::string, std::string> known_;
};

}  // namespace ckptio::cli
