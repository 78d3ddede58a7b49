// SPDX-License-Identifier: Apache-2.0
// BatchLimit: so many batches, or a part of those there are. As in Lightning the type decides: 1 is one batch, 1.0 all.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <variant>

namespace ckptio {

class BatchLimit {
 public:
  // All.
  BatchLimit() = default;
  template <std::integral T>
  BatchLimit(T n_batches) : limit_(static_cast<std::int64_t>(n_batches)) {}
  template <std::floating_point T>
  BatchLimit(T fraction) : limit_(static_cast<double>(fraction)) {}

  bool is_fraction() const noexcept { return std::holds_alternative<double>(limit_); }
  double fraction() const { return std::get<double>(limit_); }               // Requires: is_fraction()
  std::int64_t n_batches() const { return std::get<std::int64_t>(limit_); }  // Requires: not is_fraction()

  // How many of `n_available` batches; of an unknown number, unset is no limit. MisconfigurationError for a fraction
  // other than 0 and 1 of an unknown number, and for one that leaves no batch where there are some.
  // `name`: of the option, for the message.
  std::optional<std::int64_t> of(std::optional<std::int64_t> n_available, const char* name) const;

 private:
  std::variant<double, std::int64_t> limit_ = 1.0;
};

}  // namespace ckptio
