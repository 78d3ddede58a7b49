// SPDX-License-Identifier: Apache-2.0
// State: many objects saved and restored as one. How a load stays whole: load_plan.cpp.
#include "ckptio/state.h"

#include <algorithm>
#include <utility>

#include "ckptio/verify.h"
#include "state/describe.h"
#include "state/tensor_copier.h"

namespace ckptio {
namespace {

detail::TensorTable* table_of(const std::string& name, const detail::LoadPlan& plan) {
  return plan.copier == nullptr ? nullptr : plan.copier->table(name);
}

const Dict* as_dict(const Value& value, const std::string& name, detail::LoadPlan& plan) {
  if (table_of(name, plan) != nullptr) throw detail::ValuesNeeded{name};
  const Dict* state = value.get_if<Dict>();
  if (state == nullptr) plan.mismatches.mismatched.push_back({name, "dict expected, found " + detail::describe(value)});
  return state;
}

std::string counted(std::size_t n, const char* noun) { return std::to_string(n) + " " + noun + (n == 1 ? "" : "s"); }

}  // namespace

detail::StateEntry detail::make_dict_entry(std::function<Dict()> save,
                                           std::function<void(const Dict&, const std::string&, LoadPlan&)> plan_load) {
  return {[save = std::move(save)] { return Value(save()); },
          [plan_load = std::move(plan_load)](const Value& value, const std::string& name, LoadPlan& plan) {
            const Dict* state = as_dict(value, name, plan);
            if (state == nullptr) return;
            if (plan.copier == nullptr) verify(*state);
            plan_load(plan.copier != nullptr ? plan.copier->own(*state) : *state, name, plan);
          }};
}

// Modules and optimizers read the tensors while the plan runs, and keep none.
detail::StateEntry detail::make_entry(torch::nn::Module& module, bool strict) {
  return {[&module] { return Value(state_dict(module)); },
          [&module, strict](const Value& value, const std::string& name, LoadPlan& plan) {
            TensorTable* table = table_of(name, plan);
            if (table != nullptr && detail::plan_load(module, *table, plan)) return;
            const Dict* state = as_dict(value, name, plan);
            if (state == nullptr) return;
            const bool is_strict = plan.strict;
            plan.strict = is_strict && strict;
            detail::plan_load(module, *state, name, plan);
            plan.strict = is_strict;
          }};
}

detail::StateEntry detail::make_entry(torch::optim::Optimizer& optimizer) {
  return {[&optimizer] { return Value(state_dict(optimizer)); },
          [&optimizer](const Value& value, const std::string& name, LoadPlan& plan) {
            if (const Dict* state = as_dict(value, name, plan)) detail::plan_load(optimizer, *state, name, plan);
          }};
}

detail::StateEntry detail::make_stateful_entry(std::function<Dict()> save, std::function<void(const Dict&)> load) {
  return make_dict_entry(save, [save, load](const Dict& state, const std::string& prefix, LoadPlan& plan) {
    plan.attempts.push_back({prefix, [load, state] { load(state); }, save, load});
  });
}

detail::StateEntry detail::make_list_entry(std::vector<StateEntry> entries) {
  auto shared = std::make_shared<const std::vector<StateEntry>>(std::move(entries));
  auto save = [shared] {
    List states;
    for (const StateEntry& entry : *shared) states.push_back(entry.save());
    return Value(std::move(states));
  };
  auto plan_load = [shared](const Value& value, const std::string& name, LoadPlan& plan) {
    if (table_of(name, plan) != nullptr) throw ValuesNeeded{name};
    const List* states = value.get_if<List>();
    if (states == nullptr) {
      plan.mismatches.mismatched.push_back({name, "list expected, found " + describe(value)});
    } else if (states->size() != shared->size()) {
      plan.mismatches.mismatched.push_back(
          {name, counted(shared->size(), "object") + " to restore, found " + counted(states->size(), "state")});
    } else {
      for (std::size_t i = 0; i < shared->size(); ++i) {
        const auto index = static_cast<std::int64_t>(i);
        (*shared)[i].plan_load(states->at(index), name + "[" + std::to_string(i) + "]", plan);
      }
    }
  };
  return {save, plan_load};
}

State& State::add(std::string name, detail::StateEntry entry) {
  if (root_) throw ValueError("State::add: a State of one object has no room for '" + name + "'");
  if (contains(name)) throw ValueError("State::add: there is an object named '" + name + "' already");
  entries_.emplace_back(std::move(name), std::move(entry));
  return *this;
}

std::vector<std::string> State::keys() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

bool State::contains(const std::string& name) const {
  return std::ranges::any_of(entries_, [&](const auto& entry) { return entry.first == name; });
}

Dict State::state_dict() const {
  if (root_) return root_->save().as<Dict>();
  Dict checkpoint;
  for (const auto& [name, entry] : entries_) checkpoint[name] = entry.save();
  return checkpoint;
}

Dict State::load_state_dict(const Dict& checkpoint, bool strict, bool convert_dtypes) {
  detail::LoadPlan plan;
  plan.strict = strict;
  plan.convert_dtypes = convert_dtypes;
  return load(checkpoint, plan);
}

Dict detail::load_through(TensorCopier& copier, State& state, const Dict& checkpoint, bool convert_dtypes) {
  LoadPlan plan;
  plan.convert_dtypes = convert_dtypes;
  plan.copier = &copier;
  return state.load(checkpoint, plan);
}

Dict State::load(const Dict& checkpoint, detail::LoadPlan& plan) {
  Dict rest;
  if (root_) {
    root_->plan_load(checkpoint, "", plan);
  } else if (table_of("", plan) != nullptr) {
    throw detail::ValuesNeeded{};
  } else {
    for (const auto& [name, entry] : entries_) {
      if (table_of(name, plan) != nullptr) {
        entry.plan_load(Value(), name, plan);
      } else if (const Value* value = checkpoint.find(name)) {
        entry.plan_load(*value, name, plan);
      } else if (plan.strict && !entry.may_be_absent) {
        plan.mismatches.missing.push_back({name, ""});
      }
    }
    for (const auto& [key, value] : checkpoint) {
      if (!key.is<std::string>() || !contains(key.as<std::string>())) rest[key] = value;
    }
  }
  plan.run("State::load_state_dict");
  return rest;
}

}  // namespace ckptio
