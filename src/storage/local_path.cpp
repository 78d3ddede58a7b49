// SPDX-License-Identifier: Apache-2.0
#include "storage/local_path.h"

#include <algorithm>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_scheme_char(char c) { return is_alpha(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// The scheme of `scheme://rest` in lower case; empty for a plain path.
std::string scheme_of(const std::string& path) {
  const auto end = path.find("://");
  if (end == std::string::npos || end == 0 || !is_alpha(path[0])) return {};
  if (!std::all_of(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(end), is_scheme_char)) return {};
  std::string scheme = path.substr(0, end);
  std::transform(scheme.begin(), scheme.end(), scheme.begin(), lower);
  return scheme;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::string decode_percent(const std::string& encoded, const std::string& uri) {
  std::string decoded;
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] != '%') {
      decoded += encoded[i];
      continue;
    }
    const int high = i + 2 < encoded.size() ? hex_digit(encoded[i + 1]) : -1;
    const int low = i + 2 < encoded.size() ? hex_digit(encoded[i + 2]) : -1;
    if (high < 0 || low < 0) {
      throw ValueError("cannot use '" + uri + "': '%' at byte " + std::to_string(uri.size() - encoded.size() + i) +
                       " is not followed by two hexadecimal digits; write '%25' for a percent sign");
    }
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

std::string strip_scheme(const std::string& path) {
  const std::string scheme = scheme_of(path);
  if (scheme.empty()) return path;
  if (scheme != "file") {
    throw UnsupportedError("cannot use '" + path + "': LocalStorage serves plain paths and file:// URIs, not '" +
                           scheme + "://'; use a StorageBackend for that place");
  }
  const std::string rest = path.substr(scheme.size() + 3);
  const auto slash = rest.find('/');
  std::string host = rest.substr(0, slash);
  std::transform(host.begin(), host.end(), host.begin(), lower);
  if (slash == std::string::npos || (!host.empty() && host != "localhost")) {
    throw UnsupportedError("cannot use '" + path + "': a file:// URI holds an absolute path of this machine, as in " +
                           "'file:///folder/name'; found host '" + host + "'");
  }
  return decode_percent(rest.substr(slash), path);
}

}  // namespace

LocalPath parse_local_path(const std::string& path) {
  LocalPath result;
  result.text = strip_scheme(path);
  // The system's calls would silently take the part before it, which is another file.
  if (result.text.find('\0') != std::string::npos) {
    throw ValueError("cannot use '" + std::string(result.text.c_str()) + "...': the path contains a NUL byte");
  }
  while (result.text.size() > 1 && result.text.back() == '/') {
    result.text.pop_back();
    result.trailing_slash = true;
  }
  const auto slash = result.text.rfind('/');
  if (slash == std::string::npos) {
    result.folder = ".";
    result.name = result.text;
  } else {
    result.folder = slash == 0 ? "/" : result.text.substr(0, slash);
    result.name = result.text.substr(slash + 1);
  }
  return result;
}

}  // namespace ckptio::detail
