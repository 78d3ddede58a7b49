// SPDX-License-Identifier: Apache-2.0
// Whole files in one line, for tests that are about something else.
#pragma once

#include <string>

#include "ckptio/storage/storage_backend.h"

namespace ckptio::test {

inline void write_file(StorageBackend& storage, const std::string& path, const std::string& content) {
  const auto file = storage.create(path);
  file->append(content.data(), content.size());
  file->commit();
}

inline std::string read_file(const StorageBackend& storage, const std::string& path) {
  const auto file = storage.open(path);
  std::string content(file->size(), '\0');
  file->read_at(0, content.data(), content.size());
  return content;
}

}  // namespace ckptio::test
