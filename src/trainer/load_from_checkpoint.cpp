// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/load_from_checkpoint.h"

#include <c10/util/Type.h>

#include <algorithm>
#include <typeinfo>
#include <utility>

#include "ckptio/error.h"
#include "ckptio/load_checkpoint.h"

namespace ckptio {
namespace {

constexpr const char* kHyperParameters = "hyper_parameters";

std::string class_name(const torch::nn::Module& module) { return c10::demangle(typeid(module).name()); }

// LibTorch's archives of modules have a dictionary for each child.
void flatten(const Dict& dict, const std::string& prefix, Dict& out) {
  for (const auto& [key, value] : dict) {
    const std::string name = prefix + (key.is<std::string>() ? key.as<std::string>() : to_string(key));
    if (value.is<Dict>()) {
      flatten(value.as<Dict>(), name + ".", out);
    } else {
      out[name] = value;
    }
  }
}

// The state_dict in what Lightning and the Trainer write, or all that there is.
Dict state_in(const Checkpoint& checkpoint, const LoadWeightsOptions& options) {
  const Value* state = checkpoint.find(options.key);
  if (state != nullptr && state->is<Dict>()) return state->as<Dict>();
  Dict all;
  flatten(checkpoint, "", all);
  return all;
}

const std::string& replacement_of(const LoadWeightsOptions& options) {
  return options.replacement ? *options.replacement : options.prefix;
}

// The entries that are asked for, under their names in the module.
Dict select(const Dict& state, const LoadWeightsOptions& options, const std::string& what) {
  if (options.prefix.empty() && replacement_of(options).empty()) return state;
  Dict selected;
  for (const auto& [key, value] : state) {
    const std::string* name = key.get_if<std::string>();
    if (name == nullptr || !name->starts_with(options.prefix)) continue;
    selected[replacement_of(options) + name->substr(options.prefix.size())] = value;
  }
  if (selected.empty()) {
    std::string names;
    for (const auto& [key, value] : state) names += "\n    " + to_string(key);
    throw MismatchError(what + ": no entry begins with '" + options.prefix +
                        "'; nothing was changed. There are:" + names);
  }
  return selected;
}

std::vector<std::string> names(const std::vector<detail::Mismatches::Entry>& entries) {
  std::vector<std::string> result;
  for (const auto& entry : entries) result.push_back(entry.name);
  return result;
}

bool is_strict(const torch::nn::Module& module, const LoadWeightsOptions& options) {
  const auto* trained = dynamic_cast<const TrainingModule*>(&module);
  return options.strict.value_or(trained == nullptr || trained->strict_loading());
}

IncompatibleKeys apply_weights(torch::nn::Module& module, const Dict& state, const std::string& path,
                               const LoadWeightsOptions& options) {
  const std::string what = "weights of " + class_name(module) + " from '" + path + "'";
  detail::LoadPlan plan;
  plan.strict = false;  // what is missed is decided here
  detail::plan_load(module, select(state, options, what), "", plan);
  // A part of the names was asked for: the others are not missed.
  const auto is_elsewhere = [&](const auto& entry) { return !entry.name.starts_with(replacement_of(options)); };
  std::erase_if(plan.skipped.missing, is_elsewhere);
  if (is_strict(module, options)) {
    std::swap(plan.mismatches.missing, plan.skipped.missing);
    std::swap(plan.mismatches.unexpected, plan.skipped.unexpected);
  }
  plan.run(what);
  return {names(plan.skipped.missing), names(plan.skipped.unexpected)};
}

// Where Lightning puts the module: to where its first tensor is.
void move_to_tensors(torch::nn::Module& module, const Dict& state) {
  for (const auto& [key, value] : state) {
    const auto* tensor = value.get_if<at::Tensor>();
    if (tensor == nullptr || !tensor->defined() || tensor->is_meta()) continue;
    module.to(tensor->device());
    return;
  }
}

}  // namespace

Checkpoint detail::load_for_weights(const std::string& path, const LoadWeightsOptions& options) {
  LoadOptions load;
  load.map_location = options.map_location;
  load.weights_only = options.weights_only;
  if (!options.checkpoint_io) return load_checkpoint(path, load);
  if (options.checkpoint_io->requires_state_on_load()) {
    throw UnsupportedError("load '" + path + "': the plugin restores in place and gives no weights by themselves");
  }
  std::optional<Checkpoint> loaded = options.checkpoint_io->load_checkpoint(path, load);
  if (!loaded) throw UnsupportedError("load '" + path + "': the plugin gave nothing back to take weights from");
  return *std::move(loaded);
}

Dict detail::saved_hyper_parameters(const Checkpoint& checkpoint, const Dict& changes) {
  const Value* saved = checkpoint.find(kHyperParameters);
  Dict hyper_parameters = saved != nullptr && saved->is<Dict>() ? saved->as<Dict>() : Dict();
  for (const auto& [key, value] : changes) hyper_parameters[key] = value;
  return hyper_parameters;
}

void detail::apply_checkpoint(torch::nn::Module& module, Checkpoint& checkpoint, const Dict& hyper_parameters,
                              const std::string& path, const LoadWeightsOptions& options) {
  if (auto* trained = dynamic_cast<TrainingModule*>(&module)) {
    if (trained->hyper_parameters().empty()) trained->save_hyperparameters(hyper_parameters);
    trained->on_load_checkpoint(checkpoint);
  }
  const Dict state = state_in(checkpoint, options);
  move_to_tensors(module, state);
  apply_weights(module, state, path, options);
}

IncompatibleKeys load_weights(torch::nn::Module& module, const std::string& path, const LoadWeightsOptions& options) {
  const Checkpoint checkpoint = detail::load_for_weights(path, options);
  return apply_weights(module, state_in(checkpoint, options), path, options);
}

}  // namespace ckptio
