// SPDX-License-Identifier: Apache-2.0
// load_from_checkpoint and load_weights: a checkpoint's weights without the rest of its run.
//
//   auto net = ckptio::load_from_checkpoint<Net>("best.ckpt");                          // as Lightning's
//   ckptio::load_weights(*net, "best.ckpt");                                            // into one that is there
//   ckptio::load_weights(*net->encoder, "best.ckpt", {.prefix = "encoder.", .replacement = ""});   // a part of them
//
// Takes files of every format that load_checkpoint() reads, found by their bytes: Lightning's and the Trainer's
// checkpoints, and files that are a state_dict and nothing else. Reads all of the file.
// All is checked first: on any error the module is as it was, and a MismatchError names every entry that is missing,
// unexpected or of another shape or dtype, by its whole name.
// Threads: nobody may use the module meanwhile.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <concepts>
#include <memory>
#include <optional>
#include <string>

#include "ckptio/checkpoint_io.h"
#include "ckptio/state.h"
#include "ckptio/trainer/training_module.h"

namespace ckptio {

struct LoadWeightsOptions {
  // Only entries whose names begin with this are loaded, and only what they stand for is missed. One that no entry
  // begins with is a MismatchError, `strict` or not.
  std::string prefix{};
  // What stands in its place in the module: "" where the module is the part itself. Unset: `prefix`.
  std::optional<std::string> replacement{};
  // Names that only one side has are a MismatchError; otherwise they are returned. Unset: what
  // TrainingModule::strict_loading() says, true for other modules.
  std::optional<bool> strict{};
  // As in LoadOptions. The values are copied to where the module's tensors are; load_from_checkpoint puts the module
  // where the checkpoint's first tensor arrives.
  MapLocation map_location{};
  std::optional<bool> weights_only{};
  // Reads the checkpoint; unset: as the bytes say. One that restores in place is an UnsupportedError.
  std::shared_ptr<CheckpointIO> checkpoint_io{};
  // The state_dict's key in the checkpoint. Where there is no such entry, the whole file is taken as the state_dict,
  // dictionaries in it as the parts of a module: {"model": {"fc.weight": ...}} has "model.fc.weight".
  std::string key = "state_dict";
};

// Loads weights into a module that is there. Gives the names of the module that were left as they were, and those of
// the file, as they are in the module, that were left out: none if strict.
// Errors: MismatchError; what loading the file throws (NotFoundError, CorruptError, UnsafeError, ...).
IncompatibleKeys load_weights(torch::nn::Module& module, const std::string& path,
                              const LoadWeightsOptions& options = {});
// The same for a module holder (torch::nn::Linear, ...).
template <class Contained>
IncompatibleKeys load_weights(torch::nn::ModuleHolder<Contained> holder, const std::string& path,
                              const LoadWeightsOptions& options = {}) {
  return load_weights(static_cast<torch::nn::Module&>(*holder), path, options);
}

namespace detail {

// What load_from_checkpoint needs before and after it makes the module.
Checkpoint load_for_weights(const std::string& path, const LoadWeightsOptions& options);
Dict saved_hyper_parameters(const Checkpoint& checkpoint, const Dict& changes);
void apply_checkpoint(torch::nn::Module& module, Checkpoint& checkpoint, const Dict& hyper_parameters,
                      const std::string& path, const LoadWeightsOptions& options);

}  // namespace detail

// Makes an M and loads its weights: from the checkpoint's `hyper_parameters`, with those of `hyper_parameters` in their
// place or beside them, if M can be constructed from a Dict; else M(). Of a TrainingModule on_load_checkpoint() is
// called, and hyper_parameters() are set where the constructor set none.
// Errors: as load_weights; what M's constructor and on_load_checkpoint throw.
template <std::derived_from<torch::nn::Module> M>
std::shared_ptr<M> load_from_checkpoint(const std::string& path, const LoadWeightsOptions& options = {},
                                        const Dict& hyper_parameters = {}) {
  static_assert(std::constructible_from<M, const Dict&> || std::default_initializable<M>,
                "the module needs a constructor from a Dict of its hyper-parameters, or a default constructor");
  Checkpoint checkpoint = detail::load_for_weights(path, options);
  const Dict hparams = detail::saved_hyper_parameters(checkpoint, hyper_parameters);
  std::shared_ptr<M> module;
  if constexpr (std::constructible_from<M, const Dict&>) {
    module = std::make_shared<M>(hparams);
  } else {
    module = std::make_shared<M>();
  }
  detail::apply_checkpoint(*module, checkpoint, hparams, path, options);
  return module;
}

}  // namespace ckptio
