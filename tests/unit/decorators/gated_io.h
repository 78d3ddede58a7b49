// SPDX-License-Identifier: Apache-2.0
// GatedIO: a plugin to be wrapped, which does in the background what a test wants, when it wants it. It keeps
// checkpoints as they are given, so that a test sees what a plugin sees.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "ckptio/checkpoint_io.h"
#include "support/catch.h"
#include "support/gate.h"

namespace ckptio::test {

class GatedIO : public CheckpointIO {
 public:
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options) override {
    const Alone alone(*this);
    gate.pass();
    if (on_save) on_save();
    note("save " + path + (storage_options ? " with " + to_string(Value(*storage_options)) : ""));
    if (keeps) saved[path] = checkpoint;
  }
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options) override {
    const Alone alone(*this);
    note("load " + path + (options.state != nullptr ? " with state" : ""));
    if (on_load) on_load();
    if (!saved.contains(path)) throw NotFoundError("Checkpoint file not found: " + path);
    return saved.at(path);
  }
  void remove_checkpoint(const std::string& path) override {
    const Alone alone(*this);
    note("remove " + path);
    saved.erase(path);
  }
  bool requires_state_on_load() const override { return needs_state; }
  void teardown() override {
    const Alone alone(*this);
    note("teardown");
    if (on_teardown) on_teardown();
  }

  // What was called, in order; save once it is done.
  std::vector<std::string> log() const {
    const std::scoped_lock lock(mutex_);
    return log_;
  }

  Gate gate{true};
  std::function<void()> on_save, on_load, on_teardown;
  bool keeps = true, needs_state = false;
  std::map<std::string, Checkpoint> saved;

 private:
  // No plugin need be ready for two threads.
  struct Alone {
    explicit Alone(GatedIO& of) : io(of) {
      if (io.is_busy_.exchange(true)) io.note("TWO AT ONCE");
    }
    Alone(const Alone&) = delete;
    Alone& operator=(const Alone&) = delete;
    ~Alone() { io.is_busy_ = false; }
    GatedIO& io;
  };

  void note(const std::string& line) {
    const std::scoped_lock lock(mutex_);
    log_.push_back(line);
  }

  mutable std::mutex mutex_;
  std::vector<std::string> log_;
  std::atomic<bool> is_busy_ = false;
};

}  // namespace ckptio::test
