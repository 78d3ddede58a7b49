// SPDX-License-Identifier: Apache-2.0
// Files of torch.save as they were before they were zip archives.
#include <optional>

#include "ckptio/error.h"
#include "codec/archive.h"
#include "fuzz/archive_checks.h"
#include "fuzz/fuzz.h"

namespace ckptio::test {

void fuzz_legacy(const std::uint8_t* data, std::size_t n_bytes) {
  std::optional<detail::Archive> archive;
  try {
    archive = detail::Archive::open(fuzz_source(data, n_bytes), detail::ArchiveFormat::python_legacy);
  } catch (const Error&) {
    return;
  }
  check_archive(*archive);
}

}  // namespace ckptio::test
