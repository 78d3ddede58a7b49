// SPDX-License-Identifier: Apache-2.0
#include "codec/libtorch_file.h"

#include <string>

#include "codec/python_file.h"

namespace ckptio::detail {

ArchiveContents read_libtorch_file(const ZipReader& zip) {
  const std::string prefix = zip_prefix(zip);
  check_version(zip, prefix);
  const bool is_big = is_big_endian(zip, prefix);
  ArchiveContents contents;
  read_pickle_record(zip, require_record(zip, prefix, "data.pkl"), PickleDialect::libtorch, contents.graph);
  find_storages(zip, prefix + "data/", is_big, 0, contents);
  return contents;
}

}  // namespace ckptio::detail
