// SPDX-License-Identifier: Apache-2.0
// PythonLayout: the file that Python's torch.save would write, laid out before its first byte is written.
//
// Records in Python's order: P/data.pkl, P/.format_version, P/.storage_alignment, P/byteorder, P/data/0 .. N in the
// order of first reference, P/version, P/.data/serialization_id. So torch.load reads it with weights_only=True, with
// mmap=True and with config.load.calculate_storage_offsets, and torch::pickle_load does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codec/object.h"
#include "codec/zip_layout.h"

namespace ckptio::detail {

struct PythonLayoutOptions {
  std::string prefix = "archive";  // the folder within the archive
  std::string serialization_id;    // 40 decimal digits; empty: computed from names and CRCs as PyTorch does
};

class PythonLayout {
 public:
  PythonLayout(const ObjectGraph& graph, const Object& root, const PythonLayoutOptions& options = {});

  const ZipLayout& zip() const { return zip_; }
  // The storage of the graph whose bytes record `index` of zip() holds, or nullopt for the small records.
  std::optional<std::uint32_t> storage_of(std::size_t index) const;
  // The content of a record that is no storage. `crcs`: of the records before it, which the serialization id needs.
  std::string content_of(std::size_t index, const std::vector<std::uint32_t>& crcs) const;

 private:
  ZipLayout zip_;
  std::string pickle_;
  std::vector<std::uint32_t> storage_order_;
  std::string serialization_id_;
};

}  // namespace ckptio::detail
