// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/plugin_registry.h"

#include <map>
#include <mutex>

#include "ckptio/formats/torch_checkpoint_io.h"

namespace ckptio {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, PluginFactory> factories{{"torch", [] { return std::make_shared<TorchCheckpointIO>(); }}};
};

// In a function, so that it exists before any static initialiser that registers.
Registry& registry() {
  static Registry instance;
  return instance;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

PluginFactory find_factory(const std::string& name) {
  Registry& all = registry();
  const std::scoped_lock lock(all.mutex);
  const auto found = all.factories.find(name);
  return found == all.factories.end() ? nullptr : found->second;
}

}  // namespace

void register_plugin(const std::string& name, PluginFactory factory) {
  if (name.empty()) throw ValueError("register_plugin: the name is empty");
  if (!factory) throw ValueError("register_plugin '" + name + "': the factory is empty");
  Registry& all = registry();
  const std::scoped_lock lock(all.mutex);
  if (!all.factories.emplace(name, std::move(factory)).second) {
    throw ValueError("register_plugin '" + name + "': a plugin of that name is registered already");
  }
}

std::shared_ptr<CheckpointIO> make_plugin(const std::string& name) {
  // The factory runs without the lock: it may make other plugins by name.
  const PluginFactory factory = find_factory(name);
  if (!factory) {
    throw NotFoundError("no CheckpointIO plugin is named '" + name + "'; known are: " + join(plugin_names()));
  }
  std::shared_ptr<CheckpointIO> plugin = factory();
  if (!plugin) throw TypeError("the factory of the CheckpointIO plugin '" + name + "' gave a null pointer");
  return plugin;
}

std::vector<std::string> plugin_names() {
  Registry& all = registry();
  const std::scoped_lock lock(all.mutex);
  std::vector<std::string> names;
  for (const auto& [name, factory] : all.factories) names.push_back(name);
  return names;
}

Plugin::Plugin(std::shared_ptr<CheckpointIO> plugin, Checked) : checkpoint_io_(std::move(plugin)) {
  if (!checkpoint_io_)
    throw TypeError("Found invalid type for plugin: a null pointer. Expected a CheckpointIO or the name of one.");
}

}  // namespace ckptio
