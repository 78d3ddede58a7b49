// SPDX-License-Identifier: Apache-2.0
#include "trainer/pending_saves.h"

#include <exception>
#include <utility>

#include "async/save_progress.h"

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
  for (const SaveFuture& save : saves_) save.progress_->wait_quietly(SaveStage::Staged);
}

void PendingSaves::settle(bool wait, const Saved& saved, const Failed& failed) {
  if (settling_) return;
  const Flag settling(settling_);
  while (!saves_.empty() && (wait || saves_.front().is_ready())) {
    const SaveFuture save = std::move(saves_.front());
    saves_.pop_front();
    if (save.progress_->wait_quietly(SaveStage::Durable)) {
      saved(save.path(), save.timing());
    } else {
      const std::exception_ptr error = save.progress_->take_error();
      failed(save.path());
      if (error) std::rethrow_exception(error);
    }
  }
}

}  // namespace ckptio::detail
