// SPDX-License-Identifier: Apache-2.0
// How a save tells whoever times it that all bytes were handed to the storage and only the flush is left. It goes by
// the thread, not by the call, so that plugins of users, which call formats of ours, need not pass it on.
#pragma once

#include <functional>

#include "async/save_progress.h"

namespace ckptio::detail {

// Called once by whoever writes a checkpoint, before it commits. Nothing happens on a thread that is in no
// timed_save().
void signal_written();

// Runs `save` on this thread, and tells `progress` how long its parts took, and that Written was reached when
// signal_written() was called.
void timed_save(SaveProgress& progress, const std::function<void()>& save);

}  // namespace ckptio::detail
