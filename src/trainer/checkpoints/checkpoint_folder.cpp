// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/checkpoint_folder.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "ckptio/error.h"
#include "storage/local_path.h"
#include "storage/temp_file.h"

namespace ckptio::detail {
namespace {

namespace fs = std::filesystem;

// Without its scheme; nullopt for another place.
std::optional<fs::path> local_path(const std::string& path) {
  try {
    return fs::path(parse_local_path(path).text);
  } catch (const UnsupportedError&) {
    return std::nullopt;
  }
}

fs::path expand_home(const fs::path& path) {
  const char* home = std::getenv("HOME");
  if (home == nullptr || path.empty() || *path.begin() != "~") return path;
  return fs::path(home) / path.lexically_relative("~");
}

// Absolute, without `.`, `..` and links where the system can say.
fs::path real_path(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::weakly_canonical(path, error);
  if (error || !real.is_absolute()) real = fs::absolute(path, error).lexically_normal();
  if (!real.has_filename() && real.has_relative_path()) real = real.parent_path();  // a slash at the end
  return real;
}

fs::path normal_path(const fs::path& path) {
  std::error_code error;
  return fs::absolute(path, error).lexically_normal();
}

std::string with_slash(const std::string& folder) {
  return folder.empty() || folder.ends_with('/') ? folder : folder + "/";
}

bool is_below(const fs::path& relative) { return !relative.empty() && *relative.begin() != ".." && relative != "."; }

}  // namespace

bool is_local(const std::string& path) { return local_path(path).has_value(); }

std::string resolve_folder(const std::string& path) {
  const auto local = local_path(path);
  return local ? real_path(local->empty() ? "." : expand_home(*local)).string() : path;
}

std::string path_in(const std::string& folder, const std::string& name) {
  if (!is_local(name)) return name;
  if (!is_local(folder)) return name == "." ? folder : with_slash(folder) + name;
  return name == "." ? folder : (fs::path(folder) / name).string();
}

std::string folder_of(const std::string& path) {
  if (is_local(path)) return fs::path(path).parent_path().string();
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string name_in(const std::string& folder, const std::string& path) {
  const auto local = local_path(path), local_folder = local_path(folder);
  if (local && local_folder) return normal_path(*local).lexically_relative(normal_path(*local_folder)).string();
  if (path == folder) return ".";
  return path.starts_with(with_slash(folder)) ? path.substr(with_slash(folder).size()) : path;
}

bool lies_in(const std::string& path, const std::string& folder) {
  const auto local = local_path(path), local_folder = local_path(folder);
  if (local && local_folder) return is_below(normal_path(*local).lexically_relative(normal_path(*local_folder)));
  if (local || local_folder || !path.starts_with(with_slash(folder))) return false;
  return is_below(fs::path(path.substr(with_slash(folder).size())).lexically_normal());
}

bool is_same_file(const std::string& a, const std::string& b) {
  const auto local_a = local_path(a), local_b = local_path(b);
  if (!local_a || !local_b) return a == b;
  std::error_code error;
  return real_path(*local_a) == real_path(*local_b) || fs::equivalent(*local_a, *local_b, error);
}

bool is_there(const std::string& path) {
  const auto local = local_path(path);
  std::error_code error;
  return local && fs::exists(*local, error);
}

bool is_folder_with_entries(const std::string& path) { return !names_in(path).empty(); }

std::optional<long long> time_of(const std::string& path) {
  const auto local = local_path(path);
  if (!local) return std::nullopt;
  std::error_code error;
  const auto time = fs::last_write_time(*local, error);
  if (error) return std::nullopt;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  const auto local = local_path(folder);
  std::error_code error;
  if (!local) return names;
  for (fs::directory_iterator entry(*local, error), end; !error && entry != end; entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (!is_temp_name(name)) names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace ckptio::detail
