// SPDX-License-Identifier: Apache-2.0
#include "trainer/end_of_run.h"

#include <ATen/Context.h>

#include <string>
#include <utility>

namespace ckptio::detail {

RunningGuard::RunningGuard(Run& run)
    : run_(run),
      was_running_(std::exchange(run.running, true)),
      was_deterministic_(at::globalContext().deterministicAlgorithms()),
      warned_only_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
  if (run.options.deterministic) at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
}

RunningGuard::~RunningGuard() {
  run_.running = was_running_;
  if (run_.options.deterministic) at::globalContext().setDeterministicAlgorithms(was_deterministic_, warned_only_);
}

void end_failed_run(Run& run, const std::exception_ptr& error) {
  try_to(run, "on_exception", [&] { run.call(&Callback::on_exception, error); });
  while (!run.saves.empty()) {
    try_to(run, "a save that was under way", [&] { run.settle_saves(/*wait=*/true); });
  }
  for (const auto& callback : run.callbacks) {
    try_to(run, "teardown of a callback", [&] { callback->teardown(run.trainer, *run.module, run.stage); });
  }
  for (const auto& logger : run.loggers) {
    try_to(run, "finalize of a logger", [&] { logger->finalize("failed"); });
  }
  try_to(run, "teardown of the CheckpointIO", [&] { run.checkpoint_io().teardown(); });
}

void try_to(const Run& run, const char* what, const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    run.trainer.print(std::string("after the run had failed, ") + what + " failed too: " + error.what());
  } catch (...) {
    run.trainer.print(std::string("after the run had failed, ") + what + " failed too");
  }
}

}  // namespace ckptio::detail
