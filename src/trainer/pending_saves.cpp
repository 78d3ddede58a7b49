// SPDX-License-Identifier: Apache-2.0
#include "trainer/pending_saves.h"

#include <utility>

namespace ckptio::detail {
namespace {

struct Flag {
  explicit Flag(bool& flag) : flag(flag) { flag = true; }
  Flag(const Flag&) = delete;
  Flag& operator=(const Flag&) = delete;
  ~Flag() { flag = false; }
  bool& flag;
};

}  // namespace

void PendingSaves::wait_until_staged() noexcept {
  for (const SaveFuture& save : saves_) {
    try {
      save.wait(SaveStage::Staged);
    } catch (...) {  // settle() throws it again
    }
  }
}

void PendingSaves::settle(bool wait, const Saved& saved, const Failed& failed) {
  if (settling_) return;
  const Flag settling(settling_);
  while (!saves_.empty() && (wait || saves_.front().is_ready())) {
    const SaveFuture save = std::move(saves_.front());
    saves_.pop_front();
    try {
      save.wait();
    } catch (...) {
      failed(save.path());
      throw;
    }
    saved(save.path(), save.timing());
  }
}

}  // namespace ckptio::detail
