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
#include <torch/nn/pimpl.h>
#include <torch/optim/optimizer.h>

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ckptio/value.h"

namespace ckptio {

class State;

// Names of torch.nn.Module.load_state_dict's result.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;     // the module has them, the state_dict does not
  std::vector<std::string> unexpected_keys;  // the state_dict has them, the module does not
};

// Parameters and buffers by their dotted names, in Python's order: a module's own parameters, its buffers, then its
// children, in the order they were registered. Shared ones appear under each of their names; undefined ones not at
// all. LibTorch knows no non-persistent buffers: all of them are in it.
Dict state_dict(const torch::nn::Module& module);
// The same of a module holder (torch::nn::Linear, ...).
template <class Contained>
Dict state_dict(const torch::nn::ModuleHolder<Contained>& holder) {
  return state_dict(static_cast<const torch::nn::Module&>(*holder));
}

// Copies `state_dict` into the module, from whatever device. Another shape or dtype, an entry that is no tensor, and
// a tensor without data (meta) are always a MismatchError; names that only one side has are if `strict`, and are
// returned otherwise. Where two names share a tensor, the later one's value stays, as in Python.
IncompatibleKeys load_state_dict(torch::nn::Module& module, const Dict& state_dict, bool strict = true);
// The same into a module holder.
template <class Contained>
IncompatibleKeys load_state_dict(torch::nn::ModuleHolder<Contained> holder, const Dict& state_dict,
                                 bool strict = true) {
  return load_state_dict(static_cast<torch::nn::Module&>(*holder), state_dict, strict);
}

// {"state": {0: {"step": ..., ...}, ...}, "param_groups": [{"lr": ..., ..., "params": [0, 1, ...]}, ...]} with the
// keys and types that Python's optimizer of the same name writes (torch 2.13). For SGD, Adam, AdamW, RMSprop, Adagrad
// and LBFGS (and subclasses); another optimizer is a TypeError. Parameters are numbered over all groups; those without
// state (no gradient yet) have no entry in "state". `step` is a 0-dim float32 tensor as in Python (float64 from 2^24
// on, where float32 can't count). What Python's LR schedulers put into param_groups (`initial_lr`, ...) is not there:
// see LRScheduler::add_group_keys.
Dict state_dict(const torch::optim::Optimizer& optimizer);

// Takes what state_dict() gives, from C++ or from Python; as in Python the saved options (lr, ...) replace those of the
// groups, and the saved state replaces all state. State tensors are copied to the device of their parameter.
// MismatchError, naming group and key: another optimizer's state, other parameter groups, tensors of other shapes or
// dtypes, entries that are missing, unknown ones, and options that change the mathematics and have no counterpart here
// (`maximize=True`, ...). Ignored: options that only change how Python runs the same arithmetic (foreach, fused,
// capturable, differentiable), `param_names`, and what LR schedulers keep in a group.
// Older Pythons' files don't say whether they are Adam's or AdamW's (`decoupled_weight_decay`); both take them.
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

class TensorCopier;  // state/tensor_copier.h

// What does not fit, collected over all parts of a load.
struct Mismatches {
  struct Entry {
    std::string name;    // "fc.weight", "optimizer_states[0].param_groups[1]['lr']"
    std::string detail;  // what is wrong there; may be empty
  };
  std::vector<Entry> missing, unexpected, mismatched;
  bool empty() const noexcept { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  // Throws MismatchError listing them all, unless there are none. `what`: "load_state_dict of Net", ...
  void throw_if_any(const std::string& what) const;
};

// A load in two halves: the plan_load functions check and add to the plan, changing nothing; run() then changes the
// objects. So one load over many objects changes all or none.
struct LoadPlan {
  // A load that checks by applying. `apply` throws, leaving its object as it was; `save` gives what undoes it.
  struct Attempt {
    std::string name;
    std::function<void()> apply;
    std::function<Dict()> save;
    std::function<void(const Dict&)> load;
  };

  // A tensor of a live object, or of one about to be, and what it will hold: of the same shape and layout, and of the
  // same dtype or one that converts.
  struct TensorCopy {
    at::Tensor target, source;
  };

  bool strict = true;           // modules: names that only one side has are mismatches; otherwise they go to `skipped`
  bool convert_dtypes = false;  // tensors of other dtypes are converted where convert_dtypes.h allows it
  TensorCopier* copier = nullptr;  // null: sources are in memory. Borrowed
  Mismatches mismatches;
  Mismatches skipped;
  std::vector<Attempt> attempts;
  std::vector<TensorCopy> copies;              // in this order: where two have one target, the later one's value stays
  std::vector<std::function<void()>> commits;  // all was checked: they fail only where memory or a device does

  // Throws MismatchError if there are mismatches; then runs the attempts, putting back those that were applied when
  // one throws; then the copies and the commits.
  void run(const std::string& what);
};

// `prefix` + "." + `name`, or `name` alone where there is no prefix.
std::string join(const std::string& prefix, const std::string& name);

void plan_load(torch::nn::Module& module, const Dict& state, const std::string& prefix, LoadPlan& plan);
void plan_load(torch::optim::Optimizer& optimizer, const Dict& state, const std::string& prefix, LoadPlan& plan);

// A Stateful type that can check without applying: our schedulers and RngState.
template <class T>
concept Plannable = Stateful<T> && requires(T& object, const Dict& state, const std::string& prefix, LoadPlan& plan) {
  object.plan_load(state, prefix, plan);
};

// A borrowed live object.
struct StateEntry {
  std::function<Value()> save;
  std::function<void(const Value& value, const std::string& name, LoadPlan& plan)> plan_load;
  bool may_be_absent = false;  // from a checkpoint, which then leaves the object as it is
};

// `plan_load` may keep the state's tensors.
StateEntry make_dict_entry(std::function<Dict()> save,
                           std::function<void(const Dict&, const std::string&, LoadPlan&)> plan_load);
StateEntry make_stateful_entry(std::function<Dict()> save, std::function<void(const Dict&)> load);
StateEntry make_list_entry(std::vector<StateEntry> entries);

StateEntry make_entry(torch::nn::Module& module, bool strict = true);
StateEntry make_entry(torch::optim::Optimizer& optimizer);
template <Stateful T>
StateEntry make_entry(T& object) {
  auto save = [&object] { return Dict(object.state_dict()); };
  StateEntry entry;
  if constexpr (Plannable<T>) {
    entry = make_dict_entry(save, [&object](const Dict& state, const std::string& prefix, LoadPlan& plan) {
      object.plan_load(state, prefix, plan);
    });
  } else {
    entry = make_stateful_entry(save, [&object](const Dict& state) { object.load_state_dict(state); });
  }
  if constexpr (requires { object.may_be_absent(); }) entry.may_be_absent = object.may_be_absent();
  return entry;
}

// A range of pointers to objects; but not a module that happens to be one (ModuleList).
template <class R>
concept ObjectRange =
    std::ranges::range<R> && !std::derived_from<std::remove_cvref_t<R>, torch::nn::Module> && requires(R & objects) {
  detail::make_entry(**std::ranges::begin(objects));
};

// A pointer to one object: shared_ptr, a module holder (torch::nn::Linear), ...
template <class P>
concept ObjectPointer = !Stateful<std::remove_cvref_t<P>> && requires(std::remove_reference_t<P> & pointer) {
  make_entry(*pointer);
  static_cast<bool>(pointer);
};

template <ObjectPointer P>
StateEntry make_entry_of(P& pointer) {
  if (!static_cast<bool>(pointer)) throw ValueError("State: a pointer to an object is null");
  return make_entry(*pointer);
}

Dict load_through(TensorCopier& copier, State& state, const Dict& checkpoint, bool convert_dtypes);

}  // namespace detail

// References to the live objects of a run under the names they have in a checkpoint. Borrows: what it names must
// outlive it.
//
//   State state;
//   state.add("state_dict", *model).add("optimizer", optimizer).add("lr_scheduler", scheduler);
//   io.save_checkpoint(state.state_dict(), "last.ckpt");
//   auto rest = io.load_checkpoint("last.ckpt", {.state = &state});
//   // A plugin that restores in place has restored what `state` names, and returns what else there was, if anything.
//   if (rest && rest->contains("state_dict")) state.load_state_dict(*rest);
class State {
 public:
  State() = default;
  // One object, whose state_dict is the whole checkpoint.
  State(torch::nn::Module& module) : root_(detail::make_entry(module)) {}
  State(torch::optim::Optimizer& optimizer) : root_(detail::make_entry(optimizer)) {}
  template <Stateful T>
  requires(!std::same_as<T, State>) State(T& object) : root_(detail::make_entry(object)) {}
  // The same, by a pointer of any kind or a module holder; null is a ValueError.
  template <detail::ObjectPointer P>
  State(P&& pointer) : root_(detail::make_entry_of(pointer)) {}

  // Names an object. A name that is there already is a ValueError, as is adding to a State of one object.
  // Not `strict`: names that only the module or only the checkpoint has are passed over in each load.
  State& add(std::string name, torch::nn::Module& module, bool strict = true) {
    return add(std::move(name), detail::make_entry(module, strict));
  }
  State& add(std::string name, torch::optim::Optimizer& optimizer) {
    return add(std::move(name), detail::make_entry(optimizer));
  }
  template <Stateful T>
  State& add(std::string name, T& object) {
    return add(std::move(name), detail::make_entry(object));
  }
  template <detail::ObjectPointer P>
  State& add(std::string name, P&& pointer) {
    return add(std::move(name), detail::make_entry_of(pointer));
  }
  // Names a list of objects, given by pointers of any kind: std::vector<torch::optim::Optimizer*>, or of
  // std::shared_ptr, std::unique_ptr, ...; a List in the checkpoint. The objects are taken now: later changes of the
  // range don't matter.
  template <detail::ObjectRange R>
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
  // object is changed: one MismatchError lists what does not fit in any of them, each name with the object's in front
  // (`state_dict.fc.weight`, `optimizer_states[0].param_groups[1]['lr']`). Types of yours, which may refuse by
  // throwing, are loaded first; when one does, those before it are put back, and what it threw goes on (a
  // MismatchError with its name in front). Not `strict`: a name that the checkpoint lacks is skipped, as are names
  // inside modules that only one side has. `convert_dtypes`: see LoadOptions.
  Dict load_state_dict(const Dict& checkpoint, bool strict = true, bool convert_dtypes = false);

 private:
  friend Dict detail::load_through(detail::TensorCopier& copier, State& state, const Dict& checkpoint,
                                   bool convert_dtypes);

  Dict load(const Dict& checkpoint, detail::LoadPlan& plan);
  State& add(std::string name, detail::StateEntry entry);

  std::optional<detail::StateEntry> root_;
  std::vector<std::pair<std::string, detail::StateEntry>> entries_;
};

}  // namespace ckptio
