// SPDX-License-Identifier: Apache-2.0
// Plugins by name: a registry of factories, and Plugin, what Trainer(plugins=...) takes.
//
//   ckptio::register_plugin("mine", [] { return std::make_shared<MyCheckpointIO>(); });
//   ckptio::Trainer trainer({.plugins = {"mine"}});
//
// "torch" is built in. The registry is the library's only global; register at the start of main, since static
// initialisers of a static library may be dropped by the linker.
// Threads: the functions may be called from any thread.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ckptio/checkpoint_io.h"

namespace ckptio {

using PluginFactory = std::function<std::shared_ptr<CheckpointIO>()>;

// Gives `factory` a name. A name that is taken, an empty name and an empty factory are a ValueError.
void register_plugin(const std::string& name, PluginFactory factory);

// A new plugin from the factory of that name. NotFoundError, which lists the known names, where there is none;
// TypeError where the factory gives a null pointer.
std::shared_ptr<CheckpointIO> make_plugin(const std::string& name);

// All registered names, sorted.
std::vector<std::string> plugin_names();

// One item of Trainer(plugins=...): a CheckpointIO, or the name of one. Never null. A value that shares the plugin.
class Plugin {
 public:
  // TypeError for a null pointer.
  template <std::derived_from<CheckpointIO> T>
  Plugin(std::shared_ptr<T> plugin) : Plugin(std::shared_ptr<CheckpointIO>(std::move(plugin)), Checked{}) {}
  Plugin(std::nullptr_t) : Plugin(std::shared_ptr<CheckpointIO>(), Checked{}) {}

  // As make_plugin(name).
  Plugin(const char* name) : Plugin(std::string(name)) {}
  Plugin(const std::string& name) : checkpoint_io_(make_plugin(name)) {}

  const std::shared_ptr<CheckpointIO>& checkpoint_io() const noexcept { return checkpoint_io_; }

 private:
  struct Checked {};
  Plugin(std::shared_ptr<CheckpointIO> plugin, Checked);

  std::shared_ptr<CheckpointIO> checkpoint_io_;
};

}  // namespace ckptio
