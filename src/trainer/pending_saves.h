// SPDX-License-Identifier: Apache-2.0
// PendingSaves: the saves of a Trainer that it has not told its callbacks about yet.
// Threads: the Trainer's alone.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "ckptio/save_future.h"

namespace ckptio::detail {

class PendingSaves {
 public:
  using Saved = std::function<void(const std::string& path, const SaveTiming&)>;
  using Failed = std::function<void(const std::string& path)>;

  void add(SaveFuture save) { saves_.push_back(std::move(save)); }

  // Returns when none is still copying tensors.
  void wait_until_staged() noexcept;

  // Tells of each save that is over, in the order in which they were begun; all of them are, if `wait`. Throws the
  // error of the first that failed after telling of it, unless its future or the plugin threw that before; those behind
  // it stay.
  void settle(bool wait, const Saved& saved, const Failed& failed);

  bool empty() const noexcept { return saves_.empty(); }

 private:
  std::deque<SaveFuture> saves_;
  bool settling_ = false;  // what it calls may save
};

}  // namespace ckptio::detail
