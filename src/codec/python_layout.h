// SPDX-License-Identifier: Apache-2.0
// PythonLayout: the file that Python's torch.save would write, laid out before its first byte is written.
//
// Records in Python's order: P/data.pkl, P/.format_version, P/.storage_alignment, P/byteorder, P/data/0 .. N in the
// order of first reference, P/version, P/.data/serialization_id. So torch.load reads it with weights_only=True, with
// mmap=True and with config.load.calculate_storage_offsets, and torch::pickle_load does. Storages are in this machine's
// byte order, as P/byteorder says.
// Threads may read one at the same time. Errors: as write_pickle.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/object.h"
#include "codec/pickle_writer.h"
#include "codec/zip_layout.h"

namespace ckptio::detail {

struct PythonLayoutOptions {
  std::string prefix = "archive";  // the folder within the archive; Python takes the file's name without extension
  std::string serialization_id{};  // 40 decimal digits; empty: computed from names and CRCs as PyTorch does
  std::uint64_t alignment = 64;    // of the records' data, as Python's config.save.storage_alignment
};

class PythonLayout {
 public:
  PythonLayout(const ObjectGraph& graph, const Object& root, const PythonLayoutOptions& options = {});
  // Of a pickle that was written otherwise; `storage_bytes`: the storages' sizes in the order of their keys, which is
  // what storage_of() counts by.
  PythonLayout(std::string pickle, const std::vector<std::uint64_t>& storage_bytes,
               const PythonLayoutOptions& options = {});

  const ZipLayout& zip() const { return zip_; }
  // The storage of the graph whose bytes record `index` of zip() holds, or nullopt for the small records.
  std::optional<std::uint32_t> storage_of(std::size_t index) const;
  // The content of a record that is no storage. `crcs`: of the records before it, which the serialization id (the last
  // record) needs.
  std::string content_of(std::size_t index, const std::vector<std::uint32_t>& crcs) const;
  // The same of one that is not the last, where it stands.
  std::string_view fixed_content_of(std::size_t index) const;

 private:
  PythonLayout(WrittenPickle pickle, const ObjectGraph& graph, const PythonLayoutOptions& options);
  void lay_out(std::string pickle, const std::vector<std::uint64_t>& storage_bytes, const std::string& prefix);
  std::string serialization_id(const std::vector<std::uint32_t>& crcs) const;
  std::uint64_t hash_of_names() const;

  ZipLayout zip_;
  std::size_t prefix_bytes_;
  std::vector<std::string> before_, behind_;  // contents of the records before the storages, and behind them
  std::vector<std::uint32_t> storage_order_;
  std::string serialization_id_;
};

}  // namespace ckptio::detail
