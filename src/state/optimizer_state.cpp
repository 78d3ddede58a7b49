// SPDX-License-Identifier: Apache-2.0
// state_dict and load_state_dict of LibTorch's optimizers, in the layouts of torch/optim/*.py (torch 2.13.0).
//
// One description per optimizer (below, kinds()) says which keys its dictionaries have and how each one reaches
// LibTorch's class; saving and loading walk the descriptions and know no optimizer.
#include <torch/optim.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <memory>
#include <utility>

#include "ckptio/state.h"
#include "state/convert.h"
#include "state/convert_dtypes.h"
#include "state/describe.h"

namespace ckptio {
namespace {

using torch::optim::Optimizer;
using torch::optim::OptimizerOptions;
using torch::optim::OptimizerParamState;
using Problem = std::string;  // what is wrong; empty: nothing
using StateMap = ska::flat_hash_map<void*, std::unique_ptr<OptimizerParamState>>;

// ------------------------------------------------------------------------------------------- descriptions: options

struct OptionKey {
  enum class Role {
    kOption,    // has its field in LibTorch's options
    kConstant,  // changes the mathematics; LibTorch has only what the constant says
    kIdentity,  // a constant that tells one optimizer from another
    kIgnored,   // changes only how Python runs the same arithmetic
  };
  std::string key;
  Role role = Role::kOption;
  Value constant;  // of all roles but kOption
  std::function<Value(const OptimizerOptions&)> save;
  std::function<Problem(OptimizerOptions&, const Value&)> load;
};

// `field` gives the field of either const-ness.
template <class Options, class Field>
OptionKey option(std::string key, Field field) {
  using T = std::remove_cvref_t<decltype(field(std::declval<Options&>()))>;
  OptionKey result{std::move(key), OptionKey::Role::kOption, {}, {}, {}};
  result.save = [field](const OptimizerOptions& options) {
    return detail::save_value<T>(field(static_cast<const Options&>(options)));
  };
  result.load = [field](OptimizerOptions& options, const Value& value) -> Problem {
    std::optional<T> read = detail::read_value<T>(value);
    if (!read) return detail::Converter<T>::name() + " expected, found " + detail::describe(value);
    field(static_cast<Options&>(options)) = std::move(*read);
    return "";
  };
  return result;
}

// An option whose field LibTorch uses as a size without looking at it.
OptionKey positive(OptionKey key) {
  key.load = [load = std::move(key.load)](OptimizerOptions& options, const Value& value) -> Problem {
    if (value.is<std::int64_t>() && value.as<std::int64_t>() < 1)
      return "1 or more expected, found " + to_string(value);
    return load(options, value);
  };
  return key;
}

OptionKey constant(std::string key, Value value) {
  return {std::move(key), OptionKey::Role::kConstant, std::move(value), {}, {}};
}
OptionKey identity(std::string key, Value value) {
  return {std::move(key), OptionKey::Role::kIdentity, std::move(value), {}, {}};
}
OptionKey ignored(std::string key, Value value) {
  return {std::move(key), OptionKey::Role::kIgnored, std::move(value), {}, {}};
}

// Keys of a group that belong to others: the names of parameters, and what LR schedulers keep there.
bool is_bookkeeping(const std::string& key) {
  static const std::vector<std::string> keys{"params", "param_names",   "initial_lr",   "max_lr",
                                             "min_lr", "base_momentum", "max_momentum", "swa_lr"};
  return std::ranges::find(keys, key) != keys.end();
}

// --------------------------------------------------------------------------------------------- descriptions: state

// What a state entry must fit.
struct Place {
  at::Tensor param;
  std::int64_t total_numel;         // of all parameters: LBFGS works on them as one vector
  const OptimizerOptions& options;  // as they will be after the load
  const Dict& saved;                // the parameter's saved state
  const OptimizerParamState* live;  // what the parameter has now, or null
  detail::LoadPlan& plan;
};

struct StateKey {
  std::string key;
  std::function<std::optional<Value>(const OptimizerParamState&)> save;  // nullopt: there is none yet
  std::function<Problem(OptimizerParamState&, const Value&, const Place&)> load;
  std::function<bool(const Place&)> required;
};

bool can_take(const at::Tensor& live, const at::Tensor& tensor, const at::Tensor& param) {
  return live.defined() && live.sizes() == tensor.sizes() && live.scalar_type() == param.scalar_type() &&
         live.device() == param.device() && live.layout() == at::kStrided && !live.requires_grad() &&
         !live.is_inference() && live.is_non_overlapping_and_dense();
}

// Has the plan copy `value` into `to`, if it is a tensor of that shape and its dtype will do. `live`: the tensor
// that the optimizer has in its place, if any, whose memory is used again.
Problem plan_tensor(const Value& value, at::IntArrayRef shape, const Place& place, const at::Tensor& live,
                    at::Tensor& to) {
  const at::Tensor& param = place.param;
  const at::Tensor* tensor = value.get_if<at::Tensor>();
  if (tensor == nullptr || !tensor->defined()) return "Tensor expected, found " + detail::describe(value);
  if (tensor->sizes() != shape) {
    return "shape " + detail::shape_name(shape) + " expected, found " + detail::shape_name(tensor->sizes());
  }
  if (std::string why = detail::why_not_dtype(param, *tensor, place.plan.convert_dtypes); !why.empty()) return why;
  if (tensor->is_meta() && !param.is_meta()) return "found on the meta device, without data";
  const at::Tensor source = tensor->detach();
  const auto options = param.options().requires_grad(false).layout(source.layout());
  if (source.layout() != at::kStrided) {
    to = source.to(options, /*non_blocking=*/false, /*copy=*/true);
    return "";
  }
  to = can_take(live, source, param) ? live : at::empty_like(source, options);
  place.plan.copies.push_back({to, source});
  return "";
}

template <class State, class Field>
at::Tensor live_tensor(const Place& place, Field field) {
  return place.live != nullptr ? field(static_cast<const State&>(*place.live)) : at::Tensor();
}

// A tensor of the parameter's shape. `needed(options)`: whether steps with these options read it.
template <class State, class Options, class Field, class Needed>
StateKey per_element(std::string key, Field field, Needed needed) {
  return {std::move(key),
          [field](const OptimizerParamState& state) -> std::optional<Value> {
            const at::Tensor& tensor = field(static_cast<const State&>(state));
            return tensor.defined() ? std::optional<Value>(tensor.detach()) : std::nullopt;
          },
          [field](OptimizerParamState& state, const Value& value, const Place& place) {
            // Older Pythons wrote None for a buffer not made yet.
            if (value.is_null()) return Problem();
            return plan_tensor(value, place.param.sizes(), place, live_tensor<State>(place, field),
                               field(static_cast<State&>(state)));
          },
          [needed](const Place& place) { return needed(static_cast<const Options&>(place.options)); }};
}

constexpr auto kAlways = [](const auto&) { return true; };

// Python counts in a 0-dim float32 tensor; from 2^24 on that can't hold every count.
Value save_step(std::int64_t step) {
  const bool exact = step <= (std::int64_t{1} << std::numeric_limits<float>::digits);
  return at::scalar_tensor(static_cast<double>(step), exact ? at::kFloat : at::kDouble);
}

template <class State>
StateKey step_count() {
  return {"step", [](const OptimizerParamState& state) { return save_step(static_cast<const State&>(state).step()); },
          [](OptimizerParamState& state, const Value& value, const Place&) -> Problem {
            const std::optional<double> step = detail::read_double(value);
            if (!step) return "0-dim Tensor expected, found " + detail::describe(value);
            if (!(*step >= 0 && *step <= 0x1p53 && std::trunc(*step) == *step)) {
              return "a count expected, found " + std::to_string(*step);
            }
            static_cast<State&>(state).step(static_cast<std::int64_t>(*step));
            return "";
          },
          kAlways};
}

// ----------------------------------------------------------------------------------- descriptions: state of LBFGS

using torch::optim::LBFGSOptions;
using torch::optim::LBFGSParamState;

// LBFGS fills the rest of its state in its first iteration; a step that begins at the optimum has none.
bool has_iterated(const Place& place) {
  const Value* n_iter = place.saved.find("n_iter");
  return n_iter != nullptr && n_iter->is<std::int64_t>() && n_iter->as<std::int64_t>() > 0;
}

template <class T, class Field>
StateKey lbfgs_number(std::string key, Field field, bool from_the_start) {
  return {std::move(key),
          [=](const OptimizerParamState& state) -> std::optional<Value> {
            const auto& lbfgs = static_cast<const LBFGSParamState&>(state);
            if (!from_the_start && lbfgs.n_iter() == 0) return std::nullopt;
            return detail::save_value<T>(field(lbfgs));
          },
          [=](OptimizerParamState& state, const Value& value, const Place&) -> Problem {
            const std::optional<T> read = detail::read_value<T>(value);
            if (!read) return detail::Converter<T>::name() + " expected, found " + detail::describe(value);
            field(static_cast<LBFGSParamState&>(state)) = *read;
            return "";
          },
          [=](const Place& place) { return from_the_start || has_iterated(place); }};
}

// A vector over the elements of all parameters.
template <class Field>
StateKey lbfgs_vector(std::string key, Field field) {
  return {std::move(key),
          [=](const OptimizerParamState& state) -> std::optional<Value> {
            const at::Tensor& tensor = field(static_cast<const LBFGSParamState&>(state));
            return tensor.defined() ? std::optional<Value>(tensor.detach()) : std::nullopt;
          },
          [=](OptimizerParamState& state, const Value& value, const Place& place) {
            return plan_tensor(value, {place.total_numel}, place, live_tensor<LBFGSParamState>(place, field),
                               field(static_cast<LBFGSParamState&>(state)));
          },
          has_iterated};
}

Problem plan_scalar(const Value& value, const Place& place, at::Tensor& to) {
  const std::optional<double> number = detail::read_double(value);
  if (!number) return "float or 0-dim Tensor expected, found " + detail::describe(value);
  if (value.is<at::Tensor>()) return plan_tensor(value, {}, place, {}, to);
  to = at::scalar_tensor(*number, place.param.options().requires_grad(false));
  return "";
}

// Python's is the int 1 until there is curvature to estimate it from.
StateKey lbfgs_hessian_scale() {
  return {"H_diag",
          [](const OptimizerParamState& state) -> std::optional<Value> {
            const at::Tensor& tensor = static_cast<const LBFGSParamState&>(state).H_diag();
            return tensor.defined() ? std::optional<Value>(tensor.detach()) : std::nullopt;
          },
          [](OptimizerParamState& state, const Value& value, const Place& place) {
            return plan_scalar(value, place, static_cast<LBFGSParamState&>(state).H_diag());
          },
          has_iterated};
}

using PlanItem = std::function<Problem(const Value&, const Place&, at::Tensor&)>;

Problem plan_vector_item(const Value& value, const Place& place, at::Tensor& to) {
  return plan_tensor(value, {place.total_numel}, place, {}, to);
}

// Each of the remembered steps, oldest first: as many in old_dirs as in old_stps and ro, history_size at most.
template <class Field>
StateKey lbfgs_history(std::string key, Field field, PlanItem plan_item) {
  auto save = [=](const OptimizerParamState& state) -> std::optional<Value> {
    const auto& lbfgs = static_cast<const LBFGSParamState&>(state);
    if (lbfgs.n_iter() == 0) return std::nullopt;
    List items;
    for (const at::Tensor& tensor : field(lbfgs)) items.push_back(tensor.detach());
    return items;
  };
  auto load = [=](OptimizerParamState& state, const Value& value, const Place& place) -> Problem {
    const List* items = value.get_if<List>();
    if (items == nullptr) return "list expected, found " + detail::describe(value);
    const Value* dirs = place.saved.find("old_dirs");
    const std::size_t n_steps = dirs != nullptr && dirs->is<List>() ? dirs->size() : items->size();
    if (items->size() != n_steps ||
        std::cmp_greater(n_steps, static_cast<const LBFGSOptions&>(place.options).history_size())) {
      return "as many items as old_dirs has, history_size at most, expected, found " + std::to_string(items->size());
    }
    std::deque<at::Tensor> tensors(items->size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      Problem problem = plan_item(items->at(static_cast<std::int64_t>(i)), place, tensors[i]);
      if (!problem.empty()) return "[" + std::to_string(i) + "]: " + problem;
    }
    field(static_cast<LBFGSParamState&>(state)) = std::move(tensors);
    return "";
  };
  return {std::move(key), save, load, has_iterated};
}

// Working memory of the two-loop recursion, history_size long, None where not used yet; written before it is read.
StateKey lbfgs_work() {
  auto save = [](const OptimizerParamState& state) -> std::optional<Value> {
    const auto& work = static_cast<const LBFGSParamState&>(state).al();
    if (!work) return std::nullopt;
    List items;
    for (const at::Tensor& tensor : *work) items.push_back(tensor.defined() ? Value(tensor.detach()) : Value());
    return items;
  };
  auto load = [](OptimizerParamState& state, const Value& value, const Place& place) -> Problem {
    const List* items = value.get_if<List>();
    if (items == nullptr) return "list expected, found " + detail::describe(value);
    const std::int64_t history_size = static_cast<const LBFGSOptions&>(place.options).history_size();
    if (std::cmp_not_equal(items->size(), history_size)) {
      return "history_size (" + std::to_string(history_size) + ") items expected, found " +
             std::to_string(items->size());
    }
    std::vector<at::Tensor> tensors(items->size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Value& item = items->at(static_cast<std::int64_t>(i));
      Problem problem = item.is_null() ? "" : plan_scalar(item, place, tensors[i]);
      if (!problem.empty()) return "[" + std::to_string(i) + "]: " + problem;
    }
    static_cast<LBFGSParamState&>(state).al(std::move(tensors));
    return "";
  };
  return {"al", save, load, [](const Place&) { return false; }};
}

// ------------------------------------------------------------------------------------------ descriptions: the table

struct OptimizerKind {
  std::string name;
  std::vector<OptionKey> options;  // in Python's order, as are the states
  std::vector<StateKey> states;
  // Whose state there is: of parameters that had a gradient, of each one from the start, or of the first for all.
  enum class Owner { kStepped, kEvery, kFirst } owner;

  std::function<bool(const Optimizer&)> is;  // and all of its groups have the options that belong to it
  std::function<void(OptimizerOptions&, const OptimizerOptions&)> assign;
  std::function<std::unique_ptr<OptimizerParamState>()> make_state;
};

template <class T, class Options, class State>
OptimizerKind kind(std::string name, OptimizerKind::Owner owner, std::vector<OptionKey> options,
                   std::vector<StateKey> states) {
  return {std::move(name),
          std::move(options),
          std::move(states),
          owner,
          [](const Optimizer& optimizer) {
            return dynamic_cast<const T*>(&optimizer) != nullptr &&
                   std::ranges::all_of(optimizer.param_groups(), [](const auto& group) {
                     return group.has_options() && dynamic_cast<const Options*>(&group.options()) != nullptr;
                   });
          },
          [](OptimizerOptions& to, const OptimizerOptions& from) {
            static_cast<Options&>(to) = static_cast<const Options&>(from);
          },
          [] { return std::make_unique<State>(); }};
}

// The accessors of LibTorch's TORCH_ARG fields are overloaded; a lambda picks the one that gives the field.
#define CKPTIO_FIELD(name) \
  [](auto& object) -> auto& { return object.name(); }

template <class Options>
std::vector<OptionKey> adam_options(bool decoupled_weight_decay) {
  return {option<Options>("lr", CKPTIO_FIELD(lr)),
          option<Options>("betas", CKPTIO_FIELD(betas)),
          option<Options>("eps", CKPTIO_FIELD(eps)),
          option<Options>("weight_decay", CKPTIO_FIELD(weight_decay)),
          option<Options>("amsgrad", CKPTIO_FIELD(amsgrad)),
          constant("maximize", false),
          ignored("foreach", nullptr),
          ignored("capturable", false),
          ignored("differentiable", false),
          ignored("fused", nullptr),
          identity("decoupled_weight_decay", decoupled_weight_decay)};
}

template <class State, class Options>
std::vector<StateKey> adam_states() {
  return {step_count<State>(), per_element<State, Options>("exp_avg", CKPTIO_FIELD(exp_avg), kAlways),
          per_element<State, Options>("exp_avg_sq", CKPTIO_FIELD(exp_avg_sq), kAlways),
          per_element<State, Options>("max_exp_avg_sq", CKPTIO_FIELD(max_exp_avg_sq),
                                      [](const Options& options) { return options.amsgrad(); })};
}

OptimizerKind sgd() {
  using namespace torch::optim;
  return kind<SGD, SGDOptions, SGDParamState>(
      "SGD", OptimizerKind::Owner::kStepped,
      {option<SGDOptions>("lr", CKPTIO_FIELD(lr)), option<SGDOptions>("momentum", CKPTIO_FIELD(momentum)),
       option<SGDOptions>("dampening", CKPTIO_FIELD(dampening)),
       option<SGDOptions>("weight_decay", CKPTIO_FIELD(weight_decay)),
       option<SGDOptions>("nesterov", CKPTIO_FIELD(nesterov)), constant("maximize", false), ignored("foreach", nullptr),
       ignored("differentiable", false), ignored("fused", nullptr)},
      {per_element<SGDParamState, SGDOptions>("momentum_buffer", CKPTIO_FIELD(momentum_buffer),
                                              [](const SGDOptions&) { return false; })});
}

OptimizerKind rmsprop() {
  using namespace torch::optim;
  using Options = RMSpropOptions;
  using State = RMSpropParamState;
  return kind<RMSprop, Options, State>(
      "RMSprop", OptimizerKind::Owner::kStepped,
      {option<Options>("lr", CKPTIO_FIELD(lr)), option<Options>("momentum", CKPTIO_FIELD(momentum)),
       option<Options>("alpha", CKPTIO_FIELD(alpha)), option<Options>("eps", CKPTIO_FIELD(eps)),
       option<Options>("centered", CKPTIO_FIELD(centered)), option<Options>("weight_decay", CKPTIO_FIELD(weight_decay)),
       ignored("capturable", false), ignored("foreach", nullptr), constant("maximize", false),
       ignored("differentiable", false)},
      {step_count<State>(), per_element<State, Options>("square_avg", CKPTIO_FIELD(square_avg), kAlways),
       per_element<State, Options>("momentum_buffer", CKPTIO_FIELD(momentum_buffer),
                                   [](const Options& options) { return options.momentum() > 0; }),
       per_element<State, Options>("grad_avg", CKPTIO_FIELD(grad_avg),
                                   [](const Options& options) { return options.centered(); })});
}

OptimizerKind adagrad() {
  using namespace torch::optim;
  using Options = AdagradOptions;
  using State = AdagradParamState;
  return kind<Adagrad, Options, State>(
      "Adagrad", OptimizerKind::Owner::kEvery,
      {option<Options>("lr", CKPTIO_FIELD(lr)), option<Options>("lr_decay", CKPTIO_FIELD(lr_decay)),
       option<Options>("eps", CKPTIO_FIELD(eps)), option<Options>("weight_decay", CKPTIO_FIELD(weight_decay)),
       option<Options>("initial_accumulator_value", CKPTIO_FIELD(initial_accumulator_value)),
       ignored("foreach", nullptr), constant("maximize", false), ignored("differentiable", false),
       ignored("fused", nullptr)},
      {step_count<State>(), per_element<State, Options>("sum", CKPTIO_FIELD(sum), kAlways)});
}

OptimizerKind lbfgs() {
  using Options = LBFGSOptions;
  return kind<torch::optim::LBFGS, Options, LBFGSParamState>(
      "LBFGS", OptimizerKind::Owner::kFirst,
      {option<Options>("lr", CKPTIO_FIELD(lr)), option<Options>("max_iter", CKPTIO_FIELD(max_iter)),
       option<Options>("max_eval", CKPTIO_FIELD(max_eval)),
       option<Options>("tolerance_grad", CKPTIO_FIELD(tolerance_grad)),
       option<Options>("tolerance_change", CKPTIO_FIELD(tolerance_change)),
       positive(option<Options>("history_size", CKPTIO_FIELD(history_size))),
       option<Options>("line_search_fn", CKPTIO_FIELD(line_search_fn))},
      {lbfgs_number<std::int64_t>("func_evals", CKPTIO_FIELD(func_evals), true),
       lbfgs_number<std::int64_t>("n_iter", CKPTIO_FIELD(n_iter), true), lbfgs_work(),
       lbfgs_vector("d", CKPTIO_FIELD(d)), lbfgs_number<double>("t", CKPTIO_FIELD(t), false),
       lbfgs_history("old_dirs", CKPTIO_FIELD(old_dirs), plan_vector_item),
       lbfgs_history("old_stps", CKPTIO_FIELD(old_stps), plan_vector_item),
       lbfgs_history("ro", CKPTIO_FIELD(ro), plan_scalar), lbfgs_hessian_scale(),
       lbfgs_vector("prev_flat_grad", CKPTIO_FIELD(prev_flat_grad)),
       lbfgs_number<double>("prev_loss", CKPTIO_FIELD(prev_loss), false)});
}

#undef CKPTIO_FIELD

const std::vector<OptimizerKind>& kinds() {
  using namespace torch::optim;
  using Owner = OptimizerKind::Owner;
  static const std::vector<OptimizerKind> all{
      sgd(),
      kind<Adam, AdamOptions, AdamParamState>("Adam", Owner::kStepped, adam_options<AdamOptions>(false),
                                              adam_states<AdamParamState, AdamOptions>()),
      kind<AdamW, AdamWOptions, AdamWParamState>("AdamW", Owner::kStepped, adam_options<AdamWOptions>(true),
                                                 adam_states<AdamWParamState, AdamWOptions>()),
      rmsprop(),
      adagrad(),
      lbfgs()};
  return all;
}

const OptimizerKind& kind_of(const Optimizer& optimizer) {
  const auto found = std::ranges::find_if(kinds(), [&](const OptimizerKind& kind) { return kind.is(optimizer); });
  if (found != kinds().end()) return *found;
  throw TypeError("the state of " + c10::demangle(typeid(optimizer).name()) +
                  " is not known: SGD, Adam, AdamW, RMSprop, Adagrad and LBFGS are, with their own options");
}

// ---------------------------------------------------------------------------------------------------------- saving

// All parameters with their number in Python's state: their position over all groups. Of a parameter that a group
// lists twice Python keeps the last position.
std::vector<at::Tensor> parameters(const Optimizer& optimizer) {
  std::vector<at::Tensor> params;
  for (const auto& group : optimizer.param_groups()) {
    params.insert(params.end(), group.params().begin(), group.params().end());
  }
  return params;
}

Dict save_param(const OptimizerKind& kind, const OptimizerParamState& state) {
  Dict saved;
  for (const StateKey& key : kind.states) {
    if (std::optional<Value> value = key.save(state)) saved[key.key] = std::move(*value);
  }
  return saved;
}

Dict save_group(const OptimizerKind& kind, const torch::optim::OptimizerParamGroup& group, std::int64_t first_param) {
  Dict saved;
  for (const OptionKey& key : kind.options) {
    saved[key.key] = key.role == OptionKey::Role::kOption ? key.save(group.options()) : key.constant;
  }
  List params;
  for (std::size_t i = 0; i < group.params().size(); ++i) params.push_back(first_param + static_cast<std::int64_t>(i));
  saved["params"] = std::move(params);
  return saved;
}

// --------------------------------------------------------------------------------------------------------- loading

// Checks one state_dict against one optimizer; what does not fit goes to the plan.
class OptimizerLoad {
 public:
  OptimizerLoad(Optimizer& optimizer, std::string prefix, detail::LoadPlan& plan)
      : optimizer_(optimizer), kind_(kind_of(optimizer)), prefix_(std::move(prefix)), plan_(plan) {}

  void check(const Dict& state) {
    const std::size_t n_before = n_problems();
    for (const auto& [key, value] : state) {
      if (key != Value("state") && key != Value("param_groups")) unexpected(name(to_string(key)), value);
    }
    const List* groups = part<List>(state, "param_groups");
    const Dict* states = part<Dict>(state, "state");
    if (groups == nullptr || states == nullptr) return;
    check_groups(*groups);
    // State is held against the options of its group, so it must be clear which those are.
    if (n_problems() == n_before) check_states(*states);
    if (n_problems() == n_before) plan_commit();
  }

 private:
  std::string name(const std::string& part) const { return detail::join(prefix_, part); }
  std::string group_name(std::size_t i) const { return name("param_groups[" + std::to_string(i) + "]"); }
  void mismatch(std::string where, std::string why) {
    plan_.mismatches.mismatched.push_back({std::move(where), std::move(why)});
  }
  void missing(std::string where, std::string what) {
    plan_.mismatches.missing.push_back({std::move(where), std::move(what)});
  }
  void unexpected(std::string where, const Value& value) {
    plan_.mismatches.unexpected.push_back({std::move(where), detail::describe(value)});
  }
  std::size_t n_problems() const {
    const detail::Mismatches& found = plan_.mismatches;
    return found.missing.size() + found.unexpected.size() + found.mismatched.size();
  }

  template <class T>
  const T* part(const Dict& state, const char* key) {
    const Value* value = state.find(key);
    if (value == nullptr) {
      missing(name(key), "");
      return nullptr;
    }
    const T* held = value->get_if<T>();
    if (held == nullptr) {
      mismatch(name(key), std::string(detail::python_name<T>()) + " expected, found " + detail::describe(*value));
    }
    return held;
  }

  void check_groups(const List& saved_groups);
  void check_group(std::size_t i, const Dict& saved);
  void check_option(const std::string& where, const OptionKey& key, const Dict& saved, OptimizerOptions& options);
  void check_params(std::size_t i, const Dict& saved);
  void check_states(const Dict& saved_states);
  void check_state(const std::string& where, const Value& saved, std::size_t param);
  void plan_commit();

  Optimizer& optimizer_;
  const OptimizerKind& kind_;
  const std::string prefix_;
  detail::LoadPlan& plan_;

  std::vector<std::unique_ptr<OptimizerOptions>> options_;  // per group, as loaded
  std::vector<std::pair<at::Tensor, std::size_t>> params_;  // all, with their group's index
  Dict positions_;                                          // saved parameter id -> index in params_
  std::int64_t total_numel_ = 0;
  StateMap states_;
};

bool has_key(const OptimizerKind& kind, const std::string& key) {
  return std::ranges::any_of(kind.options, [&](const OptionKey& option) { return option.key == key; });
}

// Whether a saved group's keys are those of this kind of optimizer. Keys that some versions of Python don't write may
// be absent.
bool fits(const OptimizerKind& kind, const Dict& saved) {
  for (const OptionKey& option : kind.options) {
    const Value* value = saved.find(option.key);
    if (option.role == OptionKey::Role::kOption && value == nullptr) return false;
    if (option.role == OptionKey::Role::kIdentity && value != nullptr && *value != option.constant) return false;
  }
  return std::ranges::all_of(saved, [&](const auto& item) {
    const std::string* key = item.first.template get_if<std::string>();
    return key != nullptr && (is_bookkeeping(*key) || has_key(kind, *key));
  });
}

void OptimizerLoad::check_groups(const List& saved_groups) {
  const auto& groups = optimizer_.param_groups();
  if (saved_groups.size() != groups.size()) {
    mismatch(name("param_groups"),
             std::to_string(groups.size()) + " groups expected, found " + std::to_string(saved_groups.size()));
    return;
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Value& saved = saved_groups[static_cast<std::int64_t>(i)];
    if (saved.is<Dict>()) {
      check_group(i, saved.as<Dict>());
    } else {
      mismatch(group_name(i), "dict expected, found " + detail::describe(saved));
    }
  }
}

void OptimizerLoad::check_group(std::size_t i, const Dict& saved) {
  if (!fits(kind_, saved)) {
    const auto other = std::ranges::find_if(kinds(), [&](const OptimizerKind& kind) { return fits(kind, saved); });
    if (other != kinds().end()) {
      mismatch(group_name(i), "the state of " + kind_.name + " expected, found that of " + other->name);
      return;
    }
  }
  options_.push_back(optimizer_.param_groups()[i].options().clone());
  for (const OptionKey& key : kind_.options) {
    check_option(group_name(i) + "['" + key.key + "']", key, saved, *options_.back());
  }
  for (const auto& [key, value] : saved) {
    const std::string* text = key.get_if<std::string>();
    if (text != nullptr && (is_bookkeeping(*text) || has_key(kind_, *text))) continue;
    unexpected(group_name(i) + "[" + to_string(key) + "]", value);
  }
  check_params(i, saved);
}

void OptimizerLoad::check_option(const std::string& where, const OptionKey& key, const Dict& saved,
                                 OptimizerOptions& options) {
  const Value* value = saved.find(key.key);
  if (key.role == OptionKey::Role::kOption) {
    if (value == nullptr) return missing(where, "");
    Problem problem = key.load(options, *value);
    if (!problem.empty()) mismatch(where, std::move(problem));
  } else if (key.role != OptionKey::Role::kIgnored && value != nullptr && *value != key.constant) {
    mismatch(where, "is " + to_string(*value) + "; LibTorch's " + kind_.name + " has only " + to_string(key.constant));
  }
}

void OptimizerLoad::check_params(std::size_t i, const Dict& saved) {
  const auto& params = optimizer_.param_groups()[i].params();
  const std::string where = group_name(i) + "['params']";
  const Value* ids = saved.find("params");
  if (ids == nullptr) return missing(where, "");
  if (!ids->is<List>() || ids->size() != params.size()) {
    return mismatch(where, std::to_string(params.size()) + " parameters expected, found " +
                               (ids->is<List>() ? std::to_string(ids->size()) : detail::describe(*ids)));
  }
  for (std::size_t j = 0; j < params.size(); ++j) {
    const Value& id = ids->at(static_cast<std::int64_t>(j));
    if (id.is<std::int64_t>() || id.is<std::string>()) {
      positions_[id] = params_.size();
    } else {
      mismatch(where + "[" + std::to_string(j) + "]", "int expected, found " + detail::describe(id));
    }
    params_.emplace_back(params[j], i);
    total_numel_ += params[j].numel();
  }
}

void OptimizerLoad::check_states(const Dict& saved_states) {
  for (const auto& [id, saved] : saved_states) {
    const std::string where = name("state[" + to_string(id) + "]");
    const Value* position = positions_.find(id);
    const bool owns_state =
        position != nullptr && (kind_.owner != OptimizerKind::Owner::kFirst || position->as<std::size_t>() == 0);
    if (owns_state) {
      check_state(where, saved, position->as<std::size_t>());
    } else {
      unexpected(where, saved);
    }
  }
  if (kind_.owner != OptimizerKind::Owner::kEvery) return;
  for (const auto& [id, position] : positions_) {
    if (!saved_states.contains(id)) missing(name("state[" + to_string(id) + "]"), "");
  }
}

void OptimizerLoad::check_state(const std::string& where, const Value& saved, std::size_t param) {
  const Dict* entries = saved.get_if<Dict>();
  if (entries == nullptr) return mismatch(where, "dict expected, found " + detail::describe(saved));
  const auto& [tensor, group] = params_[param];
  const auto live = optimizer_.state().find(tensor.unsafeGetTensorImpl());
  const Place place{
      tensor, total_numel_, *options_[group], *entries, live != optimizer_.state().end() ? live->second.get() : nullptr,
      plan_};
  std::unique_ptr<OptimizerParamState> state = kind_.make_state();
  bool holds_anything = false;
  for (const StateKey& key : kind_.states) {
    const std::string entry = where + "['" + key.key + "']";
    const Value* value = entries->find(key.key);
    if (value != nullptr && !value->is_null()) {
      holds_anything = true;
      Problem problem = key.load(*state, *value, place);
      if (!problem.empty()) mismatch(entry, std::move(problem));
    } else if (key.required(place)) {
      missing(entry, "");
    }
  }
  for (const auto& [key, value] : *entries) {
    const bool known = std::ranges::any_of(kind_.states, [&](const StateKey& k) { return key == Value(k.key); });
    if (!known) unexpected(where + "[" + to_string(key) + "]", value);
  }
  // LibTorch's SGD takes a state for one that has its momentum.
  if (holds_anything) states_[tensor.unsafeGetTensorImpl()] = std::move(state);
}

void OptimizerLoad::plan_commit() {
  struct Loaded {
    std::vector<std::unique_ptr<OptimizerOptions>> options;
    StateMap states;
  };
  auto loaded = std::make_shared<Loaded>(Loaded{std::move(options_), std::move(states_)});
  plan_.commits.push_back([&optimizer = optimizer_, &kind = kind_, loaded] {
    for (std::size_t i = 0; i < loaded->options.size(); ++i) {
      kind.assign(optimizer.param_groups()[i].options(), *loaded->options[i]);
    }
    optimizer.state() = std::move(loaded->states);
  });
}

std::string load_what(const Optimizer& optimizer) { return "load_state_dict of " + kind_of(optimizer).name; }

}  // namespace

Dict state_dict(const Optimizer& optimizer) {
  const OptimizerKind& kind = kind_of(optimizer);
  Dict states;
  std::int64_t index = 0;
  for (const at::Tensor& param : parameters(optimizer)) {
    const auto found = optimizer.state().find(param.unsafeGetTensorImpl());
    if (found != optimizer.state().end() && found->second != nullptr) {
      Dict saved = save_param(kind, *found->second);
      if (!saved.empty()) states[index] = std::move(saved);
    }
    ++index;
  }
  List groups;
  index = 0;
  for (const auto& group : optimizer.param_groups()) {
    groups.push_back(save_group(kind, group, index));
    index += static_cast<std::int64_t>(group.params().size());
  }
  return {{"state", std::move(states)}, {"param_groups", std::move(groups)}};
}

void detail::plan_load(Optimizer& optimizer, const Dict& state, const std::string& prefix, LoadPlan& plan) {
  translate_errors(load_what(optimizer), [&] {
    const at::NoGradGuard no_grad;
    OptimizerLoad(optimizer, prefix, plan).check(state);
  });
}

void load_state_dict(Optimizer& optimizer, const Dict& state_dict) {
  detail::LoadPlan plan;
  detail::plan_load(optimizer, state_dict, "", plan);
  plan.run(load_what(optimizer));
}

}  // namespace ckptio
