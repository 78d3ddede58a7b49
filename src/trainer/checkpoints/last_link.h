// SPDX-License-Identifier: Apache-2.0
// `last` as a link to the newest checkpoint, on this machine.
#pragma once

#include <string>

namespace ckptio::detail {

// Makes `link` a relative link to `target`, whatever was there: a file, a folder, a link. At every instant, and after a
// kill, `link` is what it was or the new link. Where the file system has no links, it becomes a copy. `link` being the
// target itself, nothing is done.
// Errors: NotFoundError if there is no target; IoError.
void point_link(const std::string& link, const std::string& target);

}  // namespace ckptio::detail
