// SPDX-License-Identifier: Apache-2.0
// The arithmetic of torch/optim/lr_scheduler.py (torch 2.13.0), operation by operation: rates are equal bit for bit
// only if doubles are combined in Python's order. Compiled without contraction to fused multiply-add.
#include "ckptio/lr_scheduler.h"

#include <c10/util/Type.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "state/convert.h"
#include "state/describe.h"

namespace ckptio {
namespace {

using std::numbers::pi;
using Rates = std::vector<double>;

// Every integer up to here is a double, and there is room to count on.
constexpr std::int64_t kMaxCount = std::int64_t{1} << 53;

void require(bool condition, const std::string& message) {
  if (!condition) throw ValueError(message);
}

template <class F>
Rates map(const Rates& rates, F f) {
  Rates result(rates.size());
  std::ranges::transform(rates, result.begin(), f);
  return result;
}

void mismatch(detail::LoadPlan& plan, const std::string& name, std::string why) {
  plan.mismatches.mismatched.push_back({name, std::move(why)});
}

// `check(value)` says what is wrong with a value of the right type; empty: nothing.
template <class T, class Check>
auto load_into(T& place, Check check) {
  return [&place, check](const Value& value, const std::string& name, detail::LoadPlan& plan) {
    std::optional<T> read = detail::read_value<T>(value);
    if (!read)
      return mismatch(plan, name, detail::Converter<T>::name() + " expected, found " + detail::describe(value));
    if (std::string why = check(*read); !why.empty()) return mismatch(plan, name, std::move(why));
    plan.commits.push_back([&place, read = std::move(*read)] { place = read; });
  };
}

constexpr auto kAnything = [](const auto&) { return std::string(); };

std::string bounds(std::int64_t lowest, std::int64_t value) {
  if (value >= lowest && value <= kMaxCount) return "";
  return std::to_string(lowest) + " or more expected, found " + std::to_string(value);
}

template <class T>
auto same_size(const std::vector<T>& place) {
  return [&place](const std::vector<T>& read) -> std::string {
    if (read.size() == place.size()) return "";
    return std::to_string(place.size()) + " values expected, found " + std::to_string(read.size());
  };
}

}  // namespace

std::vector<double> PerGroup::expand(std::size_t n_groups, const char* argument) const {
  if (for_all_) return Rates(n_groups, values_[0]);
  require(values_.size() == n_groups, std::string(argument) + ": " + std::to_string(values_.size()) + " values for " +
                                          std::to_string(n_groups) + " parameter groups");
  return values_;
}

// ------------------------------------------------------------------------------------------------------ LRScheduler

LRScheduler::LRScheduler(torch::optim::Optimizer& optimizer) : optimizer_(optimizer), base_lrs_(current_lr()) {
  last_lr_ = base_lrs_;
}

void LRScheduler::initial_step() {
  step_count_ = 0;
  is_initial_ = true;
  step();
  is_initial_ = false;
}

void LRScheduler::step(std::optional<double>) {
  ++step_count_;
  update_lr();
}

// With an epoch: Python's step(epoch), which prefers the closed form.
void LRScheduler::update_lr(std::optional<std::int64_t> epoch) {
  last_epoch_ = epoch ? *epoch : last_epoch_ + 1;
  const std::optional<Rates> closed_form = epoch ? get_closed_form_lr() : std::nullopt;
  set_lr(closed_form ? *closed_form : get_lr());
}

void LRScheduler::set_lr(const std::vector<double>& rates) {
  auto& groups = optimizer_.param_groups();
  require(rates.size() == groups.size(), class_name() + ": the optimizer had " + std::to_string(rates.size()) +
                                             " parameter groups, now it has " + std::to_string(groups.size()));
  detail::translate_errors(class_name(), [&] {
    for (std::size_t i = 0; i < groups.size(); ++i) groups[i].options().set_lr(rates[i]);
  });
  last_lr_ = rates;
}

std::vector<double> LRScheduler::current_lr() const {
  return detail::translate_errors("LRScheduler", [&] {
    Rates rates;
    for (const auto& group : optimizer_.param_groups()) rates.push_back(group.options().get_lr());
    return rates;
  });
}

std::vector<double> LRScheduler::scaled(double factor) const {
  return map(current_lr(), [=](double lr) { return lr * factor; });
}

std::vector<double> LRScheduler::scaled_base(double factor) const {
  return map(base_lrs_, [=](double lr) { return lr * factor; });
}

std::string LRScheduler::class_name() const {
  const std::string name = c10::demangle(typeid(*this).name());
  const std::string ours = "ckptio::";
  return name.starts_with(ours) ? name.substr(ours.size()) : name;
}

LRScheduler::Field LRScheduler::field(std::string key, bool& place) {
  return {std::move(key), [&place] { return Value(place); }, load_into(place, kAnything)};
}

LRScheduler::Field LRScheduler::field(std::string key, std::int64_t& place, Range range) {
  const std::int64_t lowest = range == Range::kPositive ? 1 : range == Range::kCount ? -1 : -kMaxCount;
  return {std::move(key), [&place] { return Value(place); },
          load_into(place, [lowest](std::int64_t value) { return bounds(lowest, value); })};
}

LRScheduler::Field LRScheduler::field(std::string key, double& place) {
  return {std::move(key), [&place] { return Value(place); }, load_into(place, kAnything)};
}

LRScheduler::Field LRScheduler::field(std::string key, std::optional<double>& place) {
  return {std::move(key), [&place] { return detail::save_value(place); }, load_into(place, kAnything)};
}

LRScheduler::Field LRScheduler::field(std::string key, std::string& place, std::vector<std::string> allowed) {
  auto check = [allowed = std::move(allowed)](const std::string& read) -> std::string {
    if (std::ranges::find(allowed, read) != allowed.end()) return "";
    return "one of " + to_string(detail::save_value(allowed)) + " expected, found '" + read + "'";
  };
  return {std::move(key), [&place] { return Value(place); }, load_into(place, check)};
}

LRScheduler::Field LRScheduler::field(std::string key, std::vector<double>& place) {
  return {std::move(key), [&place] { return detail::save_value(place); }, load_into(place, same_size(place))};
}

LRScheduler::Field LRScheduler::field(std::string key, std::vector<std::int64_t>& place) {
  return {std::move(key), [&place] { return detail::save_value(place); }, load_into(place, same_size(place))};
}

LRScheduler::Field LRScheduler::constant(std::string key, Value value) {
  return {std::move(key), [value] { return value; },
          [value](const Value& found, const std::string& name, detail::LoadPlan& plan) {
            if (found != value) mismatch(plan, name, to_string(value) + " expected, found " + to_string(found));
          }};
}

LRScheduler::Field LRScheduler::ignored(std::string key, Value value) {
  return {std::move(key), [value] { return value; }, [](const Value&, const std::string&, detail::LoadPlan&) {}, false};
}

std::vector<LRScheduler::Field> LRScheduler::fields() { return with_base_fields({}); }

std::vector<LRScheduler::Field> LRScheduler::with_base_fields(std::vector<Field> own) {
  own.push_back(field("base_lrs", base_lrs_));
  own.push_back(field("last_epoch", last_epoch_, Range::kCount));
  own.push_back(field("_step_count", step_count_, Range::kCount));
  own.push_back(ignored("_is_initial", false));
  own.push_back(ignored("_get_lr_called_within_step", false));
  own.push_back(field("_last_lr", last_lr_));
  return own;
}

Dict LRScheduler::state_dict() const {
  Dict state;
  // fields() refers to members so that a load can write to them; saving only reads.
  for (const Field& field : const_cast<LRScheduler*>(this)->fields()) state[field.key] = field.save();
  return state;
}

void LRScheduler::plan_load(const Dict& state, const std::string& prefix, detail::LoadPlan& plan) {
  const std::vector<Field> known = fields();
  for (const Field& field : known) {
    const std::string name = detail::join(prefix, field.key);
    if (const Value* value = state.find(field.key)) {
      field.load(*value, name, plan);
    } else if (field.required) {
      plan.mismatches.missing.push_back({name, ""});
    }
  }
  for (const auto& [key, value] : state) {
    // Older Pythons wrote `verbose`.
    const bool is_known = key == Value("verbose") ||
                          std::ranges::any_of(known, [&](const Field& field) { return key == Value(field.key); });
    if (is_known) continue;
    const std::string* text = key.get_if<std::string>();
    plan.mismatches.unexpected.push_back(
        {detail::join(prefix, text != nullptr ? *text : to_string(key)), class_name() + " has no such entry"});
  }
}

void LRScheduler::load_state_dict(const Dict& state) {
  detail::LoadPlan plan;
  plan_load(state, "", plan);
  plan.run("load_state_dict of " + class_name());
}

Dict LRScheduler::group_keys(std::size_t i) const { return {{"initial_lr", base_lrs_[i]}}; }

void LRScheduler::add_group_keys(Dict& optimizer_state) const {
  List& groups = optimizer_state.at("param_groups").mutable_as<List>();
  require(groups.size() == base_lrs_.size(), class_name() + "::add_group_keys: state of " +
                                                 std::to_string(groups.size()) + " parameter groups, expected " +
                                                 std::to_string(base_lrs_.size()));
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (const auto& [key, value] : group_keys(i)) groups[static_cast<std::int64_t>(i)][key] = value;
  }
}

// ----------------------------------------------------------------------------------------------------------- StepLR

StepLR::StepLR(torch::optim::Optimizer& optimizer, std::int64_t step_size, double gamma)
    : LRScheduler(optimizer), step_size_(step_size), gamma_(gamma) {
  require(step_size > 0, "StepLR: step_size must be positive");
  initial_step();
}

std::vector<double> StepLR::get_lr() {
  if (last_epoch() == 0 || last_epoch() % step_size_ != 0) return current_lr();
  return scaled(gamma_);
}

std::optional<std::vector<double>> StepLR::get_closed_form_lr() const {
  return scaled_base(std::pow(gamma_, static_cast<double>(last_epoch() / step_size_)));
}

std::vector<LRScheduler::Field> StepLR::fields() {
  return with_base_fields({field("step_size", step_size_, Range::kPositive), field("gamma", gamma_)});
}

// ------------------------------------------------------------------------------------------------------ MultiStepLR

MultiStepLR::MultiStepLR(torch::optim::Optimizer& optimizer, const std::vector<std::int64_t>& milestones, double gamma)
    : LRScheduler(optimizer), gamma_(gamma) {
  for (std::int64_t milestone : milestones) ++milestones_[milestone];
  initial_step();
}

std::vector<double> MultiStepLR::get_lr() {
  const auto milestone = milestones_.find(last_epoch());
  if (milestone == milestones_.end()) return current_lr();
  return scaled(std::pow(gamma_, static_cast<double>(milestone->second)));
}

std::optional<std::vector<double>> MultiStepLR::get_closed_form_lr() const {
  std::int64_t n_passed = 0;
  for (const auto& [epoch, count] : milestones_) n_passed += epoch <= last_epoch() ? count : 0;
  return scaled_base(std::pow(gamma_, static_cast<double>(n_passed)));
}

std::vector<LRScheduler::Field> MultiStepLR::fields() {
  auto save = [this] {
    Dict counts;
    for (const auto& [epoch, count] : milestones_) counts[epoch] = count;
    counts.set_type(DictType::counter);  // Python calls its elements()
    return Value(std::move(counts));
  };
  auto load = [this](const Value& value, const std::string& name, detail::LoadPlan& plan) {
    const Dict* counts = value.get_if<Dict>();
    if (counts == nullptr) return mismatch(plan, name, "dict expected, found " + detail::describe(value));
    std::map<std::int64_t, std::int64_t> read;
    for (const auto& [epoch, count] : *counts) {
      const bool fits = epoch.is<std::int64_t>() && count.is<std::int64_t>() && std::abs(count.as<double>()) < 1e9;
      if (!fits) return mismatch(plan, name, "counts of epochs expected, found " + to_string(value));
      read[epoch.as<std::int64_t>()] = count.as<std::int64_t>();
    }
    plan.commits.push_back([this, read = std::move(read)] { milestones_ = read; });
  };
  return with_base_fields({{"milestones", save, load}, field("gamma", gamma_)});
}

// ------------------------------------------------------------------------------------------------------- ConstantLR

ConstantLR::ConstantLR(torch::optim::Optimizer& optimizer, double factor, std::int64_t total_iters)
    : LRScheduler(optimizer), factor_(factor), total_iters_(total_iters) {
  require(factor > 0 && factor <= 1, "ConstantLR: factor must be greater than 0 and 1 at most");
  initial_step();
}

std::vector<double> ConstantLR::get_lr() {
  if (last_epoch() == 0) return scaled(factor_);
  if (last_epoch() != total_iters_) return current_lr();
  return scaled(1.0 / factor_);
}

std::optional<std::vector<double>> ConstantLR::get_closed_form_lr() const {
  return scaled_base(factor_ + (last_epoch() >= total_iters_ ? 1.0 : 0.0) * (1 - factor_));
}

std::vector<LRScheduler::Field> ConstantLR::fields() {
  return with_base_fields({field("factor", factor_), field("total_iters", total_iters_, Range::kCount)});
}

// --------------------------------------------------------------------------------------------------------- LinearLR

LinearLR::LinearLR(torch::optim::Optimizer& optimizer, double start_factor, double end_factor, std::int64_t total_iters)
    : LRScheduler(optimizer), start_factor_(start_factor), end_factor_(end_factor), total_iters_(total_iters) {
  require(start_factor > 0 && start_factor <= 1, "LinearLR: start_factor must be greater than 0 and 1 at most");
  require(end_factor >= 0 && end_factor <= 1, "LinearLR: end_factor must be between 0 and 1");
  initial_step();
}

std::vector<double> LinearLR::get_lr() {
  if (last_epoch() == 0) return scaled(start_factor_);
  if (is_initial() || last_epoch() > total_iters_) return current_lr();
  const double slope = end_factor_ - start_factor_;
  const double before =
      static_cast<double>(total_iters_) * start_factor_ + static_cast<double>(last_epoch() - 1) * slope;
  return scaled(1.0 + slope / before);
}

std::optional<std::vector<double>> LinearLR::get_closed_form_lr() const {
  const double done = static_cast<double>(std::min(total_iters_, last_epoch()));
  return scaled_base(start_factor_ + (end_factor_ - start_factor_) * done / static_cast<double>(total_iters_));
}

std::vector<LRScheduler::Field> LinearLR::fields() {
  return with_base_fields({field("start_factor", start_factor_), field("end_factor", end_factor_),
                           field("total_iters", total_iters_, Range::kCount)});
}

// ---------------------------------------------------------------------------------------------------- ExponentialLR

ExponentialLR::ExponentialLR(torch::optim::Optimizer& optimizer, double gamma) : LRScheduler(optimizer), gamma_(gamma) {
  initial_step();
}

std::vector<double> ExponentialLR::get_lr() { return is_initial() ? current_lr() : scaled(gamma_); }

std::optional<std::vector<double>> ExponentialLR::get_closed_form_lr() const {
  return scaled_base(std::pow(gamma_, static_cast<double>(last_epoch())));
}

std::vector<LRScheduler::Field> ExponentialLR::fields() { return with_base_fields({field("gamma", gamma_)}); }

// ------------------------------------------------------------------------------------------------ CosineAnnealingLR

CosineAnnealingLR::CosineAnnealingLR(torch::optim::Optimizer& optimizer, std::int64_t T_max, double eta_min)
    : LRScheduler(optimizer), T_max_(T_max), eta_min_(eta_min) {
  require(T_max > 0, "CosineAnnealingLR: T_max must be positive");
  initial_step();
}

std::vector<double> CosineAnnealingLR::get_lr() {
  const auto epoch = static_cast<double>(last_epoch());
  const auto T_max = static_cast<double>(T_max_);
  if (is_initial()) return current_lr();
  if (step_count() == 1 && last_epoch() > 0) {
    return map(base_lrs(),
               [&](double base) { return eta_min_ + (base - eta_min_) * (1 + std::cos(epoch * pi / T_max)) / 2; });
  }
  Rates rates = current_lr();
  if ((last_epoch() - 1 - T_max_) % (2 * T_max_) == 0) {
    for (std::size_t i = 0; i < rates.size(); ++i) {
      rates[i] = rates[i] + (base_lrs()[i] - eta_min_) * (1 - std::cos(pi / T_max)) / 2;
    }
    return rates;
  }
  return map(rates, [&](double lr) {
    return (1 + std::cos(pi * epoch / T_max)) / (1 + std::cos(pi * (epoch - 1) / T_max)) * (lr - eta_min_) + eta_min_;
  });
}

std::optional<std::vector<double>> CosineAnnealingLR::get_closed_form_lr() const {
  return map(base_lrs(), [&](double base) {
    const double angle = pi * static_cast<double>(last_epoch()) / static_cast<double>(T_max_);
    return eta_min_ + (base - eta_min_) * (1 + std::cos(angle)) / 2;
  });
}

std::vector<LRScheduler::Field> CosineAnnealingLR::fields() {
  return with_base_fields({field("T_max", T_max_, Range::kPositive), field("eta_min", eta_min_)});
}

// -------------------------------------------------------------------------------------- CosineAnnealingWarmRestarts

CosineAnnealingWarmRestarts::CosineAnnealingWarmRestarts(torch::optim::Optimizer& optimizer, std::int64_t T_0,
                                                         std::int64_t T_mult, double eta_min)
    : LRScheduler(optimizer), T_0_(T_0), T_i_(T_0), T_mult_(T_mult), eta_min_(eta_min) {
  require(T_0 > 0, "CosineAnnealingWarmRestarts: T_0 must be positive");
  require(T_mult >= 1, "CosineAnnealingWarmRestarts: T_mult must be 1 or more");
  initial_step();
}

// Does not count steps, as Python's does not.
void CosineAnnealingWarmRestarts::step(std::optional<double>) {
  if (last_epoch() < 0) {
    T_cur_ = 0;
    T_i_ = T_0_;
  } else {
    T_cur_ += 1;
    if (T_cur_ >= static_cast<double>(T_i_)) {
      T_cur_ = std::fmod(T_cur_, static_cast<double>(T_i_));
      T_i_ = T_i_ > kMaxCount / T_mult_ ? kMaxCount : T_i_ * T_mult_;
    }
  }
  ++last_epoch_;
  set_lr(get_lr());
}

std::vector<double> CosineAnnealingWarmRestarts::get_lr() {
  return map(base_lrs(), [&](double base) {
    return eta_min_ + (base - eta_min_) * (1 + std::cos(pi * T_cur_ / static_cast<double>(T_i_))) / 2;
  });
}

std::vector<LRScheduler::Field> CosineAnnealingWarmRestarts::fields() {
  Field T_cur = field("T_cur", T_cur_);
  T_cur.save = [this] {
    const bool whole = std::trunc(T_cur_) == T_cur_ && std::abs(T_cur_) < 0x1p53;
    return whole ? Value(static_cast<std::int64_t>(T_cur_)) : Value(T_cur_);
  };
  return with_base_fields({field("T_0", T_0_, Range::kPositive), field("T_i", T_i_, Range::kPositive),
                           field("T_mult", T_mult_, Range::kPositive), field("eta_min", eta_min_), T_cur});
}

// --------------------------------------------------------------------------------------------------------- LambdaLR

LambdaLR::LambdaLR(torch::optim::Optimizer& optimizer, Lambda lr_lambda)
    : LambdaLR(optimizer, std::vector<Lambda>(optimizer.param_groups().size(), std::move(lr_lambda))) {}

LambdaLR::LambdaLR(torch::optim::Optimizer& optimizer, std::vector<Lambda> lr_lambdas)
    : LRScheduler(optimizer), lr_lambdas_(std::move(lr_lambdas)) {
  require(lr_lambdas_.size() == base_lrs().size(), "LambdaLR: " + std::to_string(lr_lambdas_.size()) +
                                                       " functions for " + std::to_string(base_lrs().size()) +
                                                       " parameter groups");
  initial_step();
}

std::vector<double> LambdaLR::get_lr() {
  Rates rates = base_lrs();
  for (std::size_t i = 0; i < rates.size(); ++i) rates[i] = rates[i] * lr_lambdas_[i](last_epoch());
  return rates;
}

std::vector<LRScheduler::Field> LambdaLR::fields() {
  std::vector<Field> fields = with_base_fields({});
  const std::size_t n_groups = lr_lambdas_.size();
  // None for each function; Python keeps the attributes of a callable object there, for which C++ has no place.
  fields.push_back(constant("lr_lambdas", detail::save_value(std::vector<std::optional<double>>(n_groups))));
  return fields;
}

// ------------------------------------------------------------------------------------------------------- OneCycleLR

namespace {

// Calls `visit` with the momentum of a group's options, or with beta1.
template <class Visit>
bool visit_momentum(torch::optim::OptimizerOptions& options, bool use_beta1, Visit visit) {
  using namespace torch::optim;
  if (auto* adam = dynamic_cast<AdamOptions*>(&options); adam != nullptr && use_beta1) {
    visit(std::get<0>(adam->betas()));
  } else if (auto* adamw = dynamic_cast<AdamWOptions*>(&options); adamw != nullptr && use_beta1) {
    visit(std::get<0>(adamw->betas()));
  } else if (auto* sgd = dynamic_cast<SGDOptions*>(&options); sgd != nullptr && !use_beta1) {
    visit(sgd->momentum());
  } else if (auto* rmsprop = dynamic_cast<RMSpropOptions*>(&options); rmsprop != nullptr && !use_beta1) {
    visit(rmsprop->momentum());
  } else {
    return false;
  }
  return true;
}

bool has_momentum(torch::optim::Optimizer& optimizer, bool use_beta1) {
  return std::ranges::all_of(optimizer.param_groups(),
                             [&](auto& group) { return visit_momentum(group.options(), use_beta1, [](double&) {}); });
}

std::int64_t count_steps(const OneCycleLROptions& options) {
  if (options.total_steps) {
    require(*options.total_steps > 0, "OneCycleLR: total_steps must be positive");
    return *options.total_steps;
  }
  require(options.epochs && options.steps_per_epoch,
          "OneCycleLR: give either total_steps, or epochs and steps_per_epoch");
  require(
      *options.epochs > 0 && *options.steps_per_epoch > 0 && *options.epochs <= kMaxCount / *options.steps_per_epoch,
      "OneCycleLR: epochs and steps_per_epoch must be positive");
  return *options.epochs * *options.steps_per_epoch;
}

}  // namespace

OneCycleLR::OneCycleLR(torch::optim::Optimizer& optimizer, const OneCycleLROptions& options)
    : LRScheduler(optimizer),
      total_steps_(count_steps(options)),
      anneal_strategy_(options.anneal_strategy),
      cycle_momentum_(options.cycle_momentum) {
  require(options.pct_start >= 0 && options.pct_start <= 1, "OneCycleLR: pct_start must be between 0 and 1");
  require(anneal_strategy_ == "cos" || anneal_strategy_ == "linear",
          "OneCycleLR: anneal_strategy must be 'cos' or 'linear', not '" + anneal_strategy_ + "'");
  if (cycle_momentum_) {
    use_beta1_ = has_momentum(optimizer, true);
    require(use_beta1_ || has_momentum(optimizer, false),
            "OneCycleLR: cycle_momentum needs an optimizer with momentum or betas");
  }
  set_phases(options.pct_start, options.three_phase);
  set_limits(options);
  initial_step();
}

void OneCycleLR::set_phases(double pct_start, bool three_phase) {
  const auto n = static_cast<double>(total_steps_);
  const Value last = total_steps_ - 1;
  phases_ = {{pct_start * n - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum"}};
  if (three_phase) {
    phases_.push_back({2 * pct_start * n - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"});
    phases_.push_back({last, "initial_lr", "min_lr", "max_momentum", "max_momentum"});
  } else {
    phases_.push_back({last, "max_lr", "min_lr", "base_momentum", "max_momentum"});
  }
}

void OneCycleLR::set_limits(const OneCycleLROptions& options) {
  const std::size_t n_groups = base_lrs().size();
  max_lrs_ = options.max_lr.expand(n_groups, "OneCycleLR: max_lr");
  initial_lrs_ = map(max_lrs_, [&](double lr) { return lr / options.div_factor; });
  min_lrs_ = map(initial_lrs_, [&](double lr) { return lr / options.final_div_factor; });
  max_momentums_ = options.max_momentum.expand(n_groups, "OneCycleLR: max_momentum");
  base_momentums_ = options.base_momentum.expand(n_groups, "OneCycleLR: base_momentum");
  set_base_lrs(initial_lrs_);
}

std::pair<const OneCycleLR::Phase*, double> OneCycleLR::find_phase() const {
  const auto step = static_cast<double>(last_epoch());
  double start_step = 0.0;
  for (const Phase& phase : phases_) {
    const auto end_step = phase.end_step.as<double>();
    if (step <= end_step || &phase == &phases_.back()) return {&phase, (step - start_step) / (end_step - start_step)};
    start_step = end_step;
  }
  return {};
}

const std::vector<double>& OneCycleLR::named(const std::string& name) const {
  if (name == "initial_lr") return initial_lrs_;
  if (name == "max_lr") return max_lrs_;
  if (name == "min_lr") return min_lrs_;
  return name == "max_momentum" ? max_momentums_ : base_momentums_;
}

double OneCycleLR::anneal(const std::string& start_name, const std::string& end_name, std::size_t group,
                          double pct) const {
  const double start = named(start_name)[group];
  const double end = named(end_name)[group];
  if (anneal_strategy_ == "linear") return (end - start) * pct + start;
  return end + (start - end) / 2.0 * (std::cos(pi * pct) + 1);
}

std::vector<double> OneCycleLR::get_lr() {
  require(last_epoch() <= total_steps_,
          "OneCycleLR: step " + std::to_string(last_epoch()) + " of " + std::to_string(total_steps_) + " in all");
  const auto [phase, pct] = find_phase();
  Rates rates;
  for (std::size_t i = 0; i < base_lrs().size(); ++i) {
    rates.push_back(anneal(phase->start_lr, phase->end_lr, i, pct));
    if (!cycle_momentum_) continue;
    const double momentum = anneal(phase->start_momentum, phase->end_momentum, i, pct);
    visit_momentum(optimizer().param_groups()[i].options(), use_beta1_, [&](double& field) { field = momentum; });
  }
  return rates;
}

LRScheduler::Field OneCycleLR::phases_field() {
  auto save = [this] {
    List phases;
    for (const Phase& phase : phases_) {
      phases.push_back(Dict{{"end_step", phase.end_step},
                            {"start_lr", phase.start_lr},
                            {"end_lr", phase.end_lr},
                            {"start_momentum", phase.start_momentum},
                            {"end_momentum", phase.end_momentum}});
    }
    return Value(std::move(phases));
  };
  // The names of a phase say which of three_phase's shapes it has; only the steps are numbers of their own.
  auto load = [this](const Value& value, const std::string& name, detail::LoadPlan& plan) {
    std::vector<Phase> read = phases_;
    const List* phases = value.get_if<List>();
    bool fits = phases != nullptr && phases->size() == read.size();
    for (std::size_t i = 0; fits && i < read.size(); ++i) {
      const Value& phase = phases->at(static_cast<std::int64_t>(i));
      const Value* end_step = phase.is<Dict>() ? phase.as<Dict>().find("end_step") : nullptr;
      fits = end_step != nullptr && (end_step->is<double>() || end_step->is<std::int64_t>());
      if (!fits) break;
      read[i].end_step = *end_step;
      fits = phase == Dict{{"end_step", *end_step},
                           {"start_lr", read[i].start_lr},
                           {"end_lr", read[i].end_lr},
                           {"start_momentum", read[i].start_momentum},
                           {"end_momentum", read[i].end_momentum}};
    }
    if (!fits)
      return mismatch(
          plan, name,
          "the " + std::to_string(phases_.size()) + " phases of this one expected, found " + to_string(value));
    plan.commits.push_back([this, read = std::move(read)] { phases_ = read; });
  };
  return {"_schedule_phases", save, load};
}

std::vector<LRScheduler::Field> OneCycleLR::fields() {
  std::vector<Field> own{field("total_steps", total_steps_, Range::kPositive), phases_field(),
                         field("_anneal_func_type", anneal_strategy_, {"cos", "linear"}),
                         constant("cycle_momentum", cycle_momentum_)};
  if (cycle_momentum_) own.push_back(constant("use_beta1", use_beta1_));
  return with_base_fields(std::move(own));
}

Dict OneCycleLR::group_keys(std::size_t i) const {
  Dict keys{{"initial_lr", initial_lrs_[i]}, {"max_lr", max_lrs_[i]}, {"min_lr", min_lrs_[i]}};
  if (cycle_momentum_) {
    keys["max_momentum"] = max_momentums_[i];
    keys["base_momentum"] = base_momentums_[i];
  }
  return keys;
}

// ----------------------------------------------------------------------------------------------------- SequentialLR

SequentialLR::SequentialLR(torch::optim::Optimizer& optimizer, std::vector<std::shared_ptr<LRScheduler>> schedulers,
                           std::vector<std::int64_t> milestones)
    : LRScheduler(optimizer), schedulers_(std::move(schedulers)), milestones_(std::move(milestones)) {
  check_arguments();
  rebase();
  // Takes back the first steps, but for the part that runs at step 0.
  for (const auto& scheduler : schedulers_) --scheduler->last_epoch_;
  last_epoch_ = 0;
  LRScheduler& first = *schedulers_[active()];
  first.initial_step();
  last_lr_ = first.last_lr_;
}

void SequentialLR::check_arguments() const {
  require(!schedulers_.empty(), "SequentialLR: no scheduler given");
  require(milestones_.size() + 1 == schedulers_.size(), "SequentialLR: " + std::to_string(schedulers_.size()) +
                                                            " schedulers need one milestone less, not " +
                                                            std::to_string(milestones_.size()));
  require(std::ranges::is_sorted(milestones_), "SequentialLR: milestones must ascend");
  for (std::size_t i = 0; i < schedulers_.size(); ++i) {
    const std::string which = "SequentialLR: scheduler " + std::to_string(i);
    require(schedulers_[i] != nullptr, which + " is null");
    require(&schedulers_[i]->optimizer() == &optimizer(), which + " has another optimizer");
    require(!schedulers_[i]->requires_metric(), which + " needs a metric");
    require(dynamic_cast<const SequentialLR*>(schedulers_[i].get()) == nullptr, which + " is a SequentialLR itself");
  }
}

// Python's parts all start from the optimizer's `initial_lr`: the rates before the first of them was made, which are
// those that one of them found and no other left behind; from a OneCycleLR on, those that it chose. Here each part took
// what it found, so each makes its first step anew.
void SequentialLR::rebase() {
  const auto found_first = [&](const std::shared_ptr<LRScheduler>& scheduler) {
    return !scheduler->chooses_base_lrs() && std::ranges::none_of(schedulers_, [&](const auto& other) {
      return other != scheduler && other->last_lr_ == scheduler->base_lrs_;
    });
  };
  const auto first = std::ranges::find_if(schedulers_, found_first);
  base_lrs_ = (first != schedulers_.end() ? *first : schedulers_.front())->base_lrs_;
  set_lr(base_lrs_);
  for (const auto& scheduler : schedulers_) {
    if (scheduler->chooses_base_lrs()) {
      base_lrs_ = scheduler->base_lrs_;
    } else {
      scheduler->base_lrs_ = base_lrs_;
    }
    scheduler->last_epoch_ = -1;
    scheduler->initial_step();
  }
  set_lr(base_lrs_);
}

std::size_t SequentialLR::active() const {
  return static_cast<std::size_t>(std::ranges::upper_bound(milestones_, last_epoch_) - milestones_.begin());
}

void SequentialLR::step(std::optional<double>) {
  ++last_epoch_;
  const std::size_t i = active();
  LRScheduler& scheduler = *schedulers_[i];
  if (i > 0 && milestones_[i - 1] == last_epoch_) {
    scheduler.update_lr(0);
  } else {
    scheduler.step();
  }
  last_lr_ = scheduler.last_lr_;
}

std::vector<double> SequentialLR::get_lr() { return last_lr_; }

LRScheduler::Field SequentialLR::schedulers_field() {
  auto save = [this] {
    List states;
    for (const auto& scheduler : schedulers_) states.push_back(scheduler->state_dict());
    return Value(std::move(states));
  };
  auto load = [this](const Value& value, const std::string& name, detail::LoadPlan& plan) {
    const List* states = value.get_if<List>();
    if (states == nullptr || states->size() != schedulers_.size()) {
      return mismatch(plan, name,
                      "list of " + std::to_string(schedulers_.size()) + " states expected, found " +
                          (states != nullptr ? std::to_string(states->size()) : detail::describe(value)));
    }
    for (std::size_t i = 0; i < schedulers_.size(); ++i) {
      const Value& state = states->at(static_cast<std::int64_t>(i));
      const std::string place = name + "[" + std::to_string(i) + "]";
      if (state.is<Dict>()) {
        schedulers_[i]->plan_load(state.as<Dict>(), place, plan);
      } else {
        mismatch(plan, place, "dict expected, found " + detail::describe(state));
      }
    }
  };
  return {"_schedulers", save, load};
}

std::vector<LRScheduler::Field> SequentialLR::fields() {
  return {field("_milestones", milestones_), field("last_epoch", last_epoch_, Range::kCount),
          field("_last_lr", last_lr_), schedulers_field()};
}

Dict SequentialLR::group_keys(std::size_t i) const {
  Dict keys;
  for (const auto& scheduler : schedulers_) {
    for (const auto& [key, value] : scheduler->group_keys(i)) keys[key] = value;
  }
  keys["initial_lr"] = base_lrs_[i];
  return keys;
}

// ------------------------------------------------------------------------------------------------ ReduceLROnPlateau

ReduceLROnPlateau::ReduceLROnPlateau(torch::optim::Optimizer& optimizer, const ReduceLROnPlateauOptions& options)
    : LRScheduler(optimizer),
      mode_(options.mode),
      factor_(options.factor),
      patience_(options.patience),
      threshold_(options.threshold),
      threshold_mode_(options.threshold_mode),
      cooldown_(options.cooldown),
      default_min_lr_(options.min_lr.for_all()),
      min_lrs_(options.min_lr.expand(base_lrs().size(), "ReduceLROnPlateau: min_lr")),
      eps_(options.eps),
      best_(mode_worse()) {
  require(factor_ < 1.0, "ReduceLROnPlateau: factor must be less than 1");
  require(mode_ == "min" || mode_ == "max", "ReduceLROnPlateau: mode must be 'min' or 'max', not '" + mode_ + "'");
  require(threshold_mode_ == "rel" || threshold_mode_ == "abs",
          "ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', not '" + threshold_mode_ + "'");
  last_epoch_ = 0;
}

double ReduceLROnPlateau::mode_worse() const {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return mode_ == "min" ? infinity : -infinity;
}

bool ReduceLROnPlateau::is_better(double metric) const {
  if (mode_ == "min") return metric < (threshold_mode_ == "rel" ? best_ * (1.0 - threshold_) : best_ - threshold_);
  return metric > (threshold_mode_ == "rel" ? best_ * (threshold_ + 1.0) : best_ + threshold_);
}

void ReduceLROnPlateau::step(std::optional<double> metric) {
  require(metric.has_value(), "ReduceLROnPlateau: step() needs the metric it watches");
  ++last_epoch_;
  if (is_better(*metric)) {
    best_ = *metric;
    num_bad_epochs_ = 0;
  } else {
    ++num_bad_epochs_;
  }
  if (cooldown_counter_ > 0) {
    --cooldown_counter_;
    num_bad_epochs_ = 0;
  }
  if (num_bad_epochs_ > patience_) {
    reduce_lr();
    cooldown_counter_ = cooldown_;
    num_bad_epochs_ = 0;
  }
  last_lr_ = current_lr();
}

void ReduceLROnPlateau::reduce_lr() {
  Rates rates = current_lr();
  for (std::size_t i = 0; i < rates.size() && i < min_lrs_.size(); ++i) {
    const double reduced = std::max(rates[i] * factor_, min_lrs_[i]);
    if (rates[i] - reduced > eps_) rates[i] = reduced;
  }
  set_lr(rates);
}

std::vector<double> ReduceLROnPlateau::get_lr() { return last_lr_; }

std::vector<LRScheduler::Field> ReduceLROnPlateau::fields() {
  Field default_min_lr = field("default_min_lr", default_min_lr_);
  default_min_lr.required = false;  // older Pythons don't write it
  return {field("factor", factor_),
          default_min_lr,
          field("min_lrs", min_lrs_),
          field("patience", patience_, Range::kCount),
          field("cooldown", cooldown_, Range::kCount),
          field("eps", eps_),
          field("last_epoch", last_epoch_, Range::kCount),
          field("_last_lr", last_lr_),
          ignored("mode_worse", mode_worse()),
          field("mode", mode_, {"min", "max"}),
          field("threshold", threshold_),
          field("threshold_mode", threshold_mode_, {"rel", "abs"}),
          field("best", best_),
          field("cooldown_counter", cooldown_counter_, Range::kCount),
          field("num_bad_epochs", num_bad_epochs_, Range::kCount)};
}

Dict ReduceLROnPlateau::group_keys(std::size_t) const { return {}; }

}  // namespace ckptio
