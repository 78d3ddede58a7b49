// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/timedelta_text.h"

#include <cstdint>

#include "trainer/checkpoints/python_format.h"

namespace ckptio::detail {
namespace {

// As Python keeps it: only the days can be negative.
struct Parts {
  explicit Parts(std::chrono::nanoseconds span) {
    const auto total = std::chrono::floor<std::chrono::microseconds>(span);
    const auto whole_days = std::chrono::floor<std::chrono::days>(total);
    const auto whole_seconds = std::chrono::floor<std::chrono::seconds>(total - whole_days);
    days = whole_days.count();
    seconds = whole_seconds.count();
    microseconds = (total - whole_days - whole_seconds).count();
  }
  std::int64_t days, seconds, microseconds;
};

}  // namespace

std::string timedelta_repr(const std::optional<std::chrono::nanoseconds>& span) {
  if (!span) return "None";
  const Parts parts(*span);
  std::string text;
  const auto add = [&](const char* name, std::int64_t count) {
    if (count != 0) text += (text.empty() ? "" : ", ") + std::string(name) + "=" + std::to_string(count);
  };
  add("days", parts.days);
  add("seconds", parts.seconds);
  add("microseconds", parts.microseconds);
  return "datetime.timedelta(" + (text.empty() ? "0" : text) + ")";
}

std::string timedelta_str(const std::optional<std::chrono::nanoseconds>& span) {
  if (!span) return "None";
  const Parts parts(*span);
  std::string text = parts.days == 0 ? "" : std::to_string(parts.days) + " day";
  if (parts.days != 0) text += parts.days == 1 || parts.days == -1 ? ", " : "s, ";
  text += std::to_string(parts.seconds / 3600) + ":" + python_format(parts.seconds / 60 % 60, "02d") + ":" +
          python_format(parts.seconds % 60, "02d");
  return parts.microseconds == 0 ? text : text + "." + python_format(parts.microseconds, "06d");
}

}  // namespace ckptio::detail
