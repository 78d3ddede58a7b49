// SPDX-License-Identifier: Apache-2.0
// A checkpoint's content as a tree for people. Text of the file is shown with its control characters made visible.
#pragma once

#include "cli/console.h"
#include "cli/storage_bytes.h"

namespace ckptio::cli {

// `with_values`: whole strings and lists, and the elements of small tensors, which are then read. Otherwise no storage
// is.
void describe_text(StorageBytes& bytes, bool with_values, Console& console);

// A short text of anything that is no container, for one line: "3", "'Adam'", "float32 [2, 3]".
std::string short_text(const detail::Object& object);

}  // namespace ckptio::cli
