// SPDX-License-Identifier: Apache-2.0
#include "trainer/signal_guard.h"

#include <signal.h>

#include <array>
#include <atomic>
#include <cstddef>

namespace ckptio::detail {
namespace {

constexpr std::array<int, 2> kSignals{SIGTERM, SIGINT};

// What a handler can reach: it is given no argument of ours.
std::atomic<bool> guarded = false;
std::atomic<int> caught_signal = 0;
std::array<struct sigaction, kSignals.size()> before;
static_assert(std::atomic<int>::is_always_lock_free);

// Safe in a handler: sigaction is.
void restore() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before[i], nullptr);
}

void remember(int signal) {
  caught_signal = signal;
  restore();
}

}  // namespace

SignalGuard::SignalGuard(bool enabled) {
  if (!enabled || guarded.exchange(true)) return;
  active_ = true;
  caught_signal = 0;
  struct sigaction action = {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : kSignals) sigaddset(&action.sa_mask, signal);
  // All of `before` is there before a handler can run that restores it.
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], nullptr, &before[i]);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (before[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

SignalGuard::~SignalGuard() {
  if (!active_) return;
  if (caught_signal == 0) restore();
  guarded = false;
}

std::optional<int> SignalGuard::caught() const noexcept {
  const int signal = active_ ? caught_signal.load() : 0;
  return signal == 0 ? std::nullopt : std::optional(signal);
}

}  // namespace ckptio::detail
