// SPDX-License-Identifier: Apache-2.0
// state_dict and load_state_dict for LibTorch's modules and optimizers, in Python's layouts, names and types; and
// State, the live objects of a run as one.
//
// A state_dict holds handles to the live tensors (detached, same storage): save it before training goes on.
// Loading checks everything first and throws one MismatchError that lists all that does not fit, before anything is
// changed; then it copies into the tensors that exist, so that aliases, optimizers and DataParallel copies stay valid.
// Threads: nobody may use the objects meanwhile.
#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <concepts>
#include <functional>
#include <memory>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ckptio/value.h"

namespace ckptio {

// Names of torch.nn.Module.load_state_dict's result.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;     // the module has them, the state_dict does not
  std::vector<std::string> unexpected_keys;  // the state_dict has them, the module does not
};

// Parameters and buffers by their dotted names, in Python's order: a module's own parameters, its buffers, then its
// children, in the order they were registered. Shared ones appear under each of their names; undefined ones not at
// all.
Dict state_dict(const torch::nn::Module& module);

// Copies `state_dict` into the module. Another shape or dtype is always a MismatchError; names that only one side
// has are if `strict`, and are returned otherwise.
IncompatibleKeys load_state_dict(torch::nn::Module& module, const Dict& state_dict, bool strict = true);

// {"state": {0: {"step": ..., ...}, ...}, "param_groups": [{"lr": ..., ..., "params": [0, 1, ...]}, ...]} with the
// keys and types that Python's optimizer of the same name writes. For SGD, Adam, AdamW, RMSprop, Adagrad and LBFGS
// (and subclasses); another optimizer is a TypeError.
Dict state_dict(const torch::optim::Optimizer& optimizer);

// Takes what state_dict() gives, from C++ or from Python. MismatchError, naming group and key: another optimizer's
// state, other parameter groups, tensors of other shapes, and options that change the mathematics and have no
// counterpart here (`maximize=True`, ...). Options that only change Python's speed (foreach, fused, capturable) are
// ignored. State tensors move to the device of their parameter.
void load_state_dict(torch::optim::Optimizer& optimizer, const Dict& state_dict);

// A type that keeps its own state: schedulers, metrics, yours. load_state_dict either applies all or throws and
// leaves the object as it was.
template <class T>
concept Stateful = !std::derived_from<T, torch::nn::Module> && !std::derived_from<T, torch::optim::Optimizer> &&
                   requires(T & object, const Dict& state) {
  { object.state_dict() } -> std::convertible_to<Dict>;
  object.load_state_dict(state);
};

namespace detail {

// What does not fit, collected over all parts of a load.
struct Mismatches {
  std::vector<std::string> missing, unexpected, mismatched;
  bool empty() const noexcept { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  // Throws MismatchError listing them all, unless there are none. `what`: "load_state_dict of Net", ...
  void throw_if_any(const std::string& what) const;
};

// The second half of a load, which changes the object; the first half, which checks, made it.
using Commit = std::function<void()>;

Commit prepare_load(torch::nn::Module& module, const Dict& state, const std::string& prefix, Mismatches& mismatches);
Commit prepare_load(torch::optim::Optimizer& optimizer, const Dict& state, const std::string& prefix,
                    Mismatches& mismatches);

// A borrowed live object.
struct StateEntry {
  std::function<Value()> save;
  // Checks `value` and gives what applies it. For Stateful objects, which can only check by applying, the check is
  // by type alone and the commit may throw.
  std::function<Commit(const Value& value, const std::string& prefix, Mismatches& mismatches)> prepare;
  bool commit_may_throw = false;
};

StateEntry make_entry(torch::nn::Module& module);
StateEntry make_entry(torch::optim::Optimizer& optimizer);
StateEntry make_list_entry(std::vector<StateEntry> entries);
StateEntry make_stateful_entry(std::function<Dict()> save, std::function<void(const Dict&)> load);
template <Stateful T>
StateEntry make_entry(T& object) {
  return make_stateful_entry([&object] { return Dict(object.state_dict()); },
                             [&object](const Dict& state) { object.load_state_dict(state); });
}

}  // namespace detail

// References to the live objects of a run under the names they have in a checkpoint. Borrows: what it names must
// outlive it.
//
//   State state;
//   state.add("state_dict", *model).add("optimizer", optimizer).add("lr_scheduler", scheduler);
//   io.save_checkpoint(state.state_dict(), "last.ckpt");
//   if (auto rest = io.load_checkpoint("last.ckpt", {.state = &state})) state.load_state_dict(*rest);
class State {
 public:
  State() = default;
  // One object, whose state_dict is the whole checkpoint.
  State(torch::nn::Module& module) : root_(detail::make_entry(module)) {}
  State(torch::optim::Optimizer& optimizer) : root_(detail::make_entry(optimizer)) {}
  template <Stateful T>
  requires(!std::same_as<T, State>) State(T& object) : root_(detail::make_entry(object)) {}

  // Names an object. A name that is there already is a ValueError, as is adding to a State of one object.
  State& add(std::string name, torch::nn::Module& module) { return add(std::move(name), detail::make_entry(module)); }
  State& add(std::string name, torch::optim::Optimizer& optimizer) {
    return add(std::move(name), detail::make_entry(optimizer));
  }
  template <Stateful T>
  State& add(std::string name, T& object) {
    return add(std::move(name), detail::make_entry(object));
  }
  // Names a list of objects, given by pointers of any kind: std::vector<torch::optim::Optimizer*>, or of
  // std::shared_ptr, std::unique_ptr, ...; a List in the checkpoint.
  template <std::ranges::range R>
  requires requires(R& objects) { detail::make_entry(**std::ranges::begin(objects)); }
  State& add(std::string name, R&& objects) {
    std::vector<detail::StateEntry> entries;
    for (auto& object : objects) entries.push_back(detail::make_entry(*object));
    return add(std::move(name), detail::make_list_entry(std::move(entries)));
  }

  // The names, in the order they were added.
  std::vector<std::string> keys() const;
  bool contains(const std::string& name) const;

  // The state now, as a checkpoint; its tensors are the live ones.
  Dict state_dict() const;

  // Restores every named object and returns the entries that no name stands for. All is checked before the first
  // object is changed; should an object of a type of yours refuse its state later, the others are put back.
  // A name the checkpoint lacks is a MismatchError if `strict`, and skipped otherwise.
  Dict load_state_dict(const Dict& checkpoint, bool strict = true);

 private:
  State& add(std::string name, detail::StateEntry entry);

  std::optional<detail::StateEntry> root_;
  std::vector<std::pair<std::string, detail::StateEntry>> entries_;
};

}  // namespace ckptio
