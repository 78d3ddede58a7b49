// SPDX-License-Identifier: Apache-2.0
// Where a logger of files keeps a run: the folder save_dir/name/version, as in Lightning.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>

namespace ckptio {

// Which of the runs of one name: a number n is the folder `version_<n>`, a text is the folder's own name, and nothing
// is the number after the highest that is there. To go on with a resumed run's logs, name its version.
class LogVersion {
 public:
  LogVersion() = default;
  LogVersion(std::nullopt_t) {}
  // ValueError below 0.
  template <std::integral T>
  LogVersion(T number) : LogVersion(static_cast<std::int64_t>(number)) {}
  LogVersion(std::int64_t number);
  LogVersion(const char* folder) : LogVersion(std::string(folder)) {}
  LogVersion(std::string folder);

  // Unset: the next free number.
  const std::optional<std::string>& folder() const noexcept { return folder_; }

 private:
  std::optional<std::string> folder_;
};

namespace detail {

class LogFolder {
 public:
  LogFolder(std::string save_dir, std::string name, const LogVersion& version);

  const std::string& save_dir() const noexcept { return save_dir_; }
  const std::string& name() const noexcept { return name_; }
  // Where the version was left open, the first call picks it, and makes the folder: no other run takes it then.
  // IoError where the folder can't be made.
  const std::string& version() const;
  std::string path() const;
  // The folder, made if it is not there.
  std::string make() const;

 private:
  std::string save_dir_, name_;
  mutable std::optional<std::string> version_;
};

}  // namespace detail
}  // namespace ckptio
