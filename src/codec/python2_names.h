// SPDX-License-Identifier: Apache-2.0
// The names of globals in pickles of protocols 0 to 2, which are Python 2's: Python 3 renames them on both ways
// ("__builtin__" to "builtins"). Facts from the standard library's _compat_pickle. Threads: safe, all is constant.
#pragma once

#include <optional>
#include <string_view>

namespace ckptio::detail {

struct GlobalName {
  std::string_view module, name;
};

// What Python 3 takes a name in a pickle of protocol 0, 1 or 2 for. Views of the argument or of constants.
GlobalName python3_name(GlobalName global);

// What to write into such a pickle so that Python 3 finds `global`: as Python's own pickler would where that is exact
// (it writes PermissionError as OSError, we don't), or nullopt where no name does.
std::optional<GlobalName> python2_name(GlobalName global);

}  // namespace ckptio::detail
