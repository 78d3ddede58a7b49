// SPDX-License-Identifier: Apache-2.0
// The story around the training: the same program is run as a child process four times, once undisturbed, and once
// killed in the middle of an epoch, killed again in the middle of a save, and let to its end. Both runs must end in
// the same bits.
#pragma once

#include <memory>
#include <string>

#include "ckptio/storage/storage_backend.h"
#include "ckptio/trainer/callback.h"

// How a run is killed: by SIGKILL, the hardest way there is, sent to itself at an exact place.
class Mishap {
 public:
  // "": not at all. "step=N": after step N. "save=N": halfway through writing the N-th checkpoint of this process.
  explicit Mishap(const std::string& text);

  // For the Trainer: kills after the step.
  std::shared_ptr<ckptio::Callback> callback() const;
  // For the plugin: the local disk; kills in the save.
  std::shared_ptr<ckptio::StorageBackend> storage() const;

 private:
  int step_ = 0;
  int save_ = 0;
};

// Runs `program` in `folder`, which is emptied first. Returns 0 if the two runs ended equal, with an accuracy of 97 %
// or more.
int tell_story(const std::string& program, const std::string& folder);
