// SPDX-License-Identifier: Apache-2.0
// SignalGuard: while it lives, the first SIGTERM or SIGINT is only remembered; from then on both do what they did
// before, so that a second one ends the process as ever. One at a time in a process: while another lives, and where
// `enabled` is false, it does nothing.
#pragma once

#include <optional>

namespace ckptio::detail {

class SignalGuard {
 public:
  explicit SignalGuard(bool enabled);
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  ~SignalGuard();

  // The number of the signal that came.
  std::optional<int> caught() const noexcept;

 private:
  bool active_ = false;
};

}  // namespace ckptio::detail
