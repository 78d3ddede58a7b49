// SPDX-License-Identifier: Apache-2.0
// What must be finished before the process ends: when main returns, or std::exit is called. Not on quick_exit, _exit,
// abort or a signal.
//
// Threads: safe from any.
#pragma once

#include <memory>

namespace ckptio::detail {

class Drainable {
 public:
  virtual ~Drainable() = default;
  // Finishes what is pending.
  virtual void drain() noexcept = 0;
};

// Has drain() be called when the process ends, if the object still lives then. To be called for every piece of work,
// by the thread that hands it over: where another thread than the main one ends the process, only what was made before
// the last call is sure to be there still.
void drain_at_exit(const std::shared_ptr<Drainable>& work);

}  // namespace ckptio::detail
