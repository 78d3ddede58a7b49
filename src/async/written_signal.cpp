// SPDX-License-Identifier: Apache-2.0
#include "async/written_signal.h"

#include <chrono>
#include <optional>
#include <utility>

namespace ckptio::detail {
namespace {

using Clock = std::chrono::steady_clock;

struct Save {
  SaveProgress& progress;
  std::optional<Clock::time_point> written{};
};

thread_local Save* current = nullptr;

struct CurrentSave {
  explicit CurrentSave(Save& save) : before(std::exchange(current, &save)) {}
  CurrentSave(const CurrentSave&) = delete;
  CurrentSave& operator=(const CurrentSave&) = delete;
  ~CurrentSave() { current = before; }
  Save* before;
};

}  // namespace

void signal_written() {
  if (current == nullptr) return;
  current->written = Clock::now();
  current->progress.reach(SaveStage::Written);
}

void timed_save(SaveProgress& progress, const std::function<void()>& action) {
  Save save{progress};
  const auto begin = Clock::now();
  {
    const CurrentSave scope(save);
    action();
  }
  const auto end = Clock::now();
  progress.update_timing([&](SaveTiming& timing) {
    timing.writing = save.written.value_or(end) - begin;
    timing.flushing = end - save.written.value_or(end);
  });
}

}  // namespace ckptio::detail
