// SPDX-License-Identifier: Apache-2.0
// WrappingCheckpointIO: a plugin around another one, to which it passes every call, capability and teardown. Derive
// from it and override what should differ:
//
//   class Counting : public ckptio::WrappingCheckpointIO {
//    public:
//     using WrappingCheckpointIO::WrappingCheckpointIO;
//     void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
//                          const std::optional<Dict>& storage_options) override {
//       ++n_saves;
//       WrappingCheckpointIO::save_checkpoint(checkpoint, path, storage_options);
//     }
//     int n_saves = 0;
//   };
//
// Made without a plugin to wrap, it gets one by set_checkpoint_io(); the Trainer gives it a TorchCheckpointIO.
// Threads: as the wrapped plugin; set_checkpoint_io() by itself.
#pragma once

#include <memory>

#include "ckptio/checkpoint_io.h"

namespace ckptio {

class WrappingCheckpointIO : public CheckpointIO {
 public:
  WrappingCheckpointIO() = default;
  // ValueError for a null pointer. Another wrapper is welcome, with a plugin of its own or without.
  explicit WrappingCheckpointIO(std::shared_ptr<CheckpointIO> checkpoint_io);
  ~WrappingCheckpointIO() override;

  // What is wrapped; null where there is nothing yet.
  const std::shared_ptr<CheckpointIO>& checkpoint_io() const noexcept { return checkpoint_io_; }

  // True if there is a plugin at the bottom of it all: one that is wrapped here, and is not itself a wrapper without.
  bool is_configured() const noexcept;

  // Gives the innermost wrapper a plugin if it has none; nothing happens where is_configured().
  // TypeError for another wrapper, which belongs into the constructor; ValueError for a null pointer.
  void set_checkpoint_io(std::shared_ptr<CheckpointIO> checkpoint_io);

  // These, and async_save_checkpoint and saves_asynchronously, pass on to the wrapped plugin; MisconfigurationError
  // where there is none.
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options = std::nullopt) override;
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options = {}) override;
  void remove_checkpoint(const std::string& path) override;
  bool requires_state_on_load() const override;
  bool saves_asynchronously() const override;
  void reserve(const Checkpoint& checkpoint) override;

  // Calls save_checkpoint(), so that a subclass overrides that alone; what arrives at the wrapped plugin is an
  // async_save_checkpoint all the same. The future is that one's: of the last, after waiting for the others, where a
  // subclass saves more than once; one that is over, where it doesn't.
  SaveFuture async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                   const std::optional<Dict>& storage_options = std::nullopt) override;

  // Of the wrapped plugin; nothing happens where there is none.
  void teardown() override;

 protected:
  // What is wrapped; MisconfigurationError where there is nothing.
  CheckpointIO& wrapped() const;

 private:
  std::shared_ptr<CheckpointIO> checkpoint_io_;
};

}  // namespace ckptio
