// SPDX-License-Identifier: Apache-2.0
// How a run ends.
#pragma once

#include <exception>
#include <functional>

#include "trainer/run.h"

namespace ckptio::detail {

// Says that a run is on, for as long as it lives.
class RunningGuard {
 public:
  explicit RunningGuard(Run& run);
  RunningGuard(const RunningGuard&) = delete;
  RunningGuard& operator=(const RunningGuard&) = delete;
  ~RunningGuard();

 private:
  Run& run_;
  bool was_running_;
  bool was_deterministic_;
  bool warned_only_;
};

// on_exception and all that follows, of a run that `error` ended. Throws nothing: what fails in it is reported.
void end_failed_run(Run& run, const std::exception_ptr& error);

// Does `action`; what it throws is reported and dropped.
void try_to(const Run& run, const char* what, const std::function<void()>& action);

}  // namespace ckptio::detail
