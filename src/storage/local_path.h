// SPDX-License-Identifier: Apache-2.0
// What the user calls a path, taken apart: a plain path or a `file://` URI (RFC 8089) becomes folder and name.
#pragma once

#include <string>

namespace ckptio::detail {

struct LocalPath {
  std::string text;    // the path without its scheme, as open(2) takes it, without trailing slashes
  std::string folder;  // where `name` lies: "." for a bare name, "/" for the root
  std::string name;    // last component; empty for the root and for an empty path
  bool trailing_slash = false;

  // True where `name` cannot be created or removed in `folder`: empty, `.` and `..`.
  bool is_not_a_name() const { return name.empty() || name == "." || name == ".."; }
};

// UnsupportedError for a URI of another scheme or host; ValueError for a NUL byte or a broken %XX. No file is touched.
LocalPath parse_local_path(const std::string& path);

}  // namespace ckptio::detail
