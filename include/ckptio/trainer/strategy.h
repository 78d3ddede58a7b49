// SPDX-License-Identifier: Apache-2.0
// Strategy: how a run is spread over devices, as far as checkpoints are concerned. The default keeps them through one
// CheckpointIO. A strategy that handles checkpoints by itself (sharded ones) subclasses it and says so.
//
// For some strategies it is not possible to use a custom checkpoint plugin: those whose handles_checkpoints() is true
// refuse one, in the constructor of the Trainer.
// Threads: one thread at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "ckptio/checkpoint_io.h"

namespace ckptio {

class Strategy;

namespace detail {
// TorchCheckpointIO, whatever the strategy says to plugins of users.
void set_default_checkpoint_io(Strategy& strategy);
}  // namespace detail

class Strategy {
 public:
  // With no plugin of its own: the Trainer's plugin, or TorchCheckpointIO.
  Strategy() = default;
  explicit Strategy(std::shared_ptr<CheckpointIO> checkpoint_io) : checkpoint_io_(std::move(checkpoint_io)) {}
  Strategy(const Strategy&) = delete;
  Strategy& operator=(const Strategy&) = delete;
  virtual ~Strategy() = default;

  // For messages. The default implementation gives the name of the class.
  virtual std::string name() const;

  // True if it keeps checkpoints by itself: then the plugin it was made with, or TorchCheckpointIO, is the only one
  // it uses, and one given to the Trainer is a MisconfigurationError. The default implementation says false.
  virtual bool handles_checkpoints() const { return false; }

  // What checkpoints go through; null until the Trainer has set it.
  const std::shared_ptr<CheckpointIO>& checkpoint_io() const noexcept { return checkpoint_io_; }

  // Called by the Trainer with the user's plugin. MisconfigurationError if there is one already, or
  // handles_checkpoints().
  virtual void set_checkpoint_io(std::shared_ptr<CheckpointIO> checkpoint_io);

 private:
  friend void detail::set_default_checkpoint_io(Strategy& strategy);
  std::shared_ptr<CheckpointIO> checkpoint_io_;
};

}  // namespace ckptio
