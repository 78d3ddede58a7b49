// SPDX-License-Identifier: Apache-2.0
// resume_loader: the training loader, put where it was when the checkpoint was saved.
#pragma once

#include "ckptio/trainer/batch_source.h"
#include "trainer/run.h"

namespace ckptio::detail {

// On return the next train.next() fetches the batch after those that run.progress counts as done in this epoch, and
// train.begin() begins the next epoch. Leaves the generators anywhere. Nothing is done where no epoch had begun, or
// where one had ended and the loader keeps no state.
//
// Warns by name of a loader for which the batches may not be those of the run that was saved. MismatchError: the loader
// gives fewer batches than were done; and what a loader's load_state_dict throws.
void resume_loader(const Run& run, BatchSource& train);

}  // namespace ckptio::detail
