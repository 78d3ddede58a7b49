// SPDX-License-Identifier: Apache-2.0
// Spans of time as Python writes a datetime.timedelta, in microseconds.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace ckptio::detail {

// "datetime.timedelta(days=1, seconds=5)"; "None".
std::string timedelta_repr(const std::optional<std::chrono::nanoseconds>& span);

// "1 day, 0:00:05"; "None".
std::string timedelta_str(const std::optional<std::chrono::nanoseconds>& span);

}  // namespace ckptio::detail
