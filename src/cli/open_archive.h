// SPDX-License-Identifier: Apache-2.0
// Opens files of this machine for the commands. Errors: NotFoundError, IoError, and those of Archive::open;
// UnsupportedError for a folder.
#pragma once

#include <string>

#include "codec/archive.h"
#include "codec/byte_source.h"

namespace ckptio::cli {

detail::ByteSource open_file(const std::string& path);
detail::Archive open_archive(const std::string& path);

}  // namespace ckptio::cli
