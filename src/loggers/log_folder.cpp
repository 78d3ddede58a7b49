// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/log_folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <initializer_list>
#include <string_view>
#include <system_error>

#include "ckptio/error.h"

namespace ckptio {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPrefix = "version_";

// The number after "version_", or nothing. Numbers are not reused below the highest, so that names stay in order.
std::optional<std::int64_t> number_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t number = 0;
  const char *begin = name.data() + kPrefix.size(), *end = name.data() + name.size();
  const auto result = std::from_chars(begin, end, number);
  if (result.ec != std::errc() || result.ptr != end || number < 0) return std::nullopt;
  return number;
}

std::int64_t next_number(const std::string& folder) {
  std::int64_t next = 0;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    if (const auto number = number_of(entry.path().filename().string())) next = std::max(next, *number + 1);
  }
  return next;
}

// Empty parts are left out.
std::string join(std::initializer_list<std::string_view> parts) {
  fs::path path;
  for (const std::string_view part : parts) {
    if (!part.empty()) path /= part;
  }
  return path.empty() ? "." : path.string();
}

[[noreturn]] void throw_refused(const std::string& folder, const std::error_code& error) {
  throw IoError("cannot make the folder '" + folder + "' for logs: " + error.message(), error.value());
}

}  // namespace

LogVersion::LogVersion(std::int64_t number) : folder_(std::string(kPrefix) + std::to_string(number)) {
  if (number < 0) throw ValueError("version of a logger: 0 or more expected, found " + std::to_string(number));
}

LogVersion::LogVersion(std::string folder) : folder_(std::move(folder)) {}

namespace detail {

LogFolder::LogFolder(std::string save_dir, std::string name, const LogVersion& version)
    : save_dir_(std::move(save_dir)), name_(std::move(name)), version_(version.folder()) {}

// mkdir tells who was first: two runs that start at once get a number each.
const std::string& LogFolder::version() const {
  if (version_) return *version_;
  const std::string parent = join({save_dir_, name_});
  std::error_code error;
  fs::create_directories(parent, error);
  if (error) throw_refused(parent, error);
  for (std::int64_t number = next_number(parent);; ++number) {
    std::string version = LogVersion(number).folder().value();
    if (fs::create_directory(join({parent, version}), error)) return version_.emplace(std::move(version));
    if (error) throw_refused(join({parent, version}), error);
  }
}

std::string LogFolder::path() const { return join({save_dir_, name_, version()}); }

std::string LogFolder::make() const {
  std::string folder = path();
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_refused(folder, error);
  return folder;
}

}  // namespace detail
}  // namespace ckptio
