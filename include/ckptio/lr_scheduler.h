// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedulers that can be saved and restored: Python's (torch/optim/lr_scheduler.py, 2.13.0), with their
// names, arguments, arithmetic and state_dict, so that a run can go on in either language with the very same rates.
//
// LibTorch's own torch::optim::StepLR and ReduceLROnPlateauScheduler keep their progress in private members with no
// way to save or restore it; these take their place. They work on any torch::optim optimizer.
//
//   auto scheduler = std::make_shared<ckptio::StepLR>(optimizer, /*step_size=*/30);
//   for (...) { train_one_epoch(); scheduler->step(); }
//   checkpoint["lr_schedulers"] = ckptio::List{scheduler->state_dict()};
//
// Differences from Python:
// - No `last_epoch` argument. A scheduler starts at the beginning, which sets the first learning rates in the
//   optimizer; to resume, make it as before and load_state_dict. As in Python, load the optimizer's state after that:
//   a scheduler's state does not set the optimizer's rates.
// - Python keeps the rates a run began with in the optimizer's groups (`initial_lr`), which LibTorch has no room for;
//   here each scheduler keeps those it found when it was made (base_lrs), and SequentialLR gives its parts the same.
//   add_group_keys() adds them for Python.
//
// Borrows the optimizer, which must outlive the scheduler and keep its parameter groups.
// Errors: ValueError for arguments out of range; MismatchError from load_state_dict, with everything that does not fit
// and nothing changed: entries that are missing or unknown (another class's state), of another type, out of range, or
// of another number of groups.
// Threads: one at a time, and not while the optimizer steps.
#pragma once

#include <torch/optim/optimizer.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ckptio/state.h"
#include "ckptio/value.h"

namespace ckptio {

// One number for all parameter groups, or one for each.
class PerGroup {
 public:
  PerGroup(double for_all) : values_{for_all}, for_all_(true) {}
  PerGroup(std::initializer_list<double> for_each) : values_(for_each) {}
  PerGroup(std::vector<double> for_each) : values_(std::move(for_each)) {}

  // ValueError, naming the argument, where the numbers given are not `n_groups`.
  std::vector<double> expand(std::size_t n_groups, const char* argument) const;
  std::optional<double> for_all() const { return for_all_ ? std::optional(values_[0]) : std::nullopt; }

 private:
  std::vector<double> values_;
  bool for_all_ = false;
};

// The base of all schedulers. To write one: give the next rates in get_lr(), list your members in fields(), and call
// initial_step() at the end of the constructor.
//
//   class HalvingLR : public ckptio::LRScheduler {
//    public:
//     HalvingLR(torch::optim::Optimizer& optimizer, int64_t period) : LRScheduler(optimizer), period_(period) {
//       initial_step();
//     }
//    protected:
//     std::vector<double> get_lr() override {
//       return scaled(last_epoch() > 0 && last_epoch() % period_ == 0 ? 0.5 : 1.0);
//     }
//     std::vector<Field> fields() override { return with_base_fields({field("period", period_, Range::kPositive)}); }
//    private:
//     int64_t period_;
//   };
class LRScheduler {
 public:
  LRScheduler(const LRScheduler&) = delete;
  LRScheduler& operator=(const LRScheduler&) = delete;
  virtual ~LRScheduler() = default;

  // Sets the optimizer's rates for the next epoch (or step: whatever the caller counts). `metric` is what
  // ReduceLROnPlateau watches; the others ignore it, so that a training loop can give it to all.
  // ValueError from one that requires_metric() and gets none.
  virtual void step(std::optional<double> metric = std::nullopt);

  // True if step() needs the metric. The default implementation says false.
  virtual bool requires_metric() const { return false; }

  // The rates that the last step set, one per parameter group.
  const std::vector<double>& get_last_lr() const noexcept { return last_lr_; }
  // How many steps were made; Python's name for it.
  std::int64_t last_epoch() const noexcept { return last_epoch_; }
  torch::optim::Optimizer& optimizer() const noexcept { return optimizer_; }

  // Python's keys and types.
  Dict state_dict() const;
  // Takes a state_dict() of the same class, from C++ or Python, also from older Pythons (`verbose` is ignored).
  // Sizes and factors are replaced by the saved ones, as in Python.
  void load_state_dict(const Dict& state);
  // The checking half of load_state_dict, for loads of several objects.
  void plan_load(const Dict& state, const std::string& prefix, detail::LoadPlan& plan);

  // Adds to the optimizer's state_dict what Python's scheduler of this name keeps in its param_groups: `initial_lr`,
  // and for OneCycleLR `max_lr`, `min_lr`, `max_momentum`, `base_momentum`. Python's OneCycleLR can't go on without;
  // the others can. ckptio ignores them on load. ValueError where `optimizer_state` has other groups.
  void add_group_keys(Dict& optimizer_state) const;

 protected:
  // One entry of the state_dict.
  struct Field {
    std::string key;
    std::function<Value()> save;
    // Checks `value`, adding what is wrong to the plan, or to its commits what applies it.
    std::function<void(const Value& value, const std::string& name, detail::LoadPlan& plan)> load;
    bool required = true;  // to be there when loading
  };
  // What a number from a file may be: counts are safe to add to and positive ones to divide by.
  enum class Range { kAny, kCount, kPositive };

  explicit LRScheduler(torch::optim::Optimizer& optimizer);

  // The rates of last_epoch(), which has been counted up already, one per group. The optimizer still has those of
  // the epoch before.
  virtual std::vector<double> get_lr() = 0;
  // The rates of last_epoch() from base_lrs() alone, where there is such a formula; SequentialLR begins a part with it.
  // The default implementation has none.
  virtual std::optional<std::vector<double>> get_closed_form_lr() const { return std::nullopt; }
  // The entries of the state_dict, in order. The default implementation lists the base's own.
  virtual std::vector<Field> fields();
  // What add_group_keys adds to group `i`. The default implementation gives `initial_lr`.
  virtual Dict group_keys(std::size_t i) const;
  // True if base_lrs() are not the rates found but set by this scheduler (OneCycleLR).
  virtual bool chooses_base_lrs() const { return false; }

  // Step 0, which Python's constructor makes. A constructor can't call overridden functions: call it in the derived
  // class's.
  void initial_step();

  const std::vector<double>& base_lrs() const noexcept { return base_lrs_; }
  // Steps made by step(), initial_step()'s too: not those that SequentialLR begins a part with.
  std::int64_t step_count() const noexcept { return step_count_; }
  // While initial_step() runs.
  bool is_initial() const noexcept { return is_initial_; }
  // The optimizer's rates now; all of them times `factor`; base_lrs() times `factor`.
  std::vector<double> current_lr() const;
  std::vector<double> scaled(double factor) const;
  std::vector<double> scaled_base(double factor) const;

  // Fields over members of the derived class, which they refer to. A list must have as many items as `place` has.
  static Field field(std::string key, bool& place);
  static Field field(std::string key, std::int64_t& place, Range range = Range::kAny);
  static Field field(std::string key, double& place);
  static Field field(std::string key, std::optional<double>& place);
  static Field field(std::string key, std::string& place, std::vector<std::string> allowed);
  static Field field(std::string key, std::vector<double>& place);
  static Field field(std::string key, std::vector<std::int64_t>& place);
  // An entry that must be `value`, or is written as `value` and ignored on load.
  static Field constant(std::string key, Value value);
  static Field ignored(std::string key, Value value);
  std::vector<Field> with_base_fields(std::vector<Field> own);

  std::string class_name() const;
  // Sets the optimizer's rates and get_last_lr(). ValueError where it has another number of groups by now.
  void set_lr(const std::vector<double>& rates);
  // For schedulers that choose the rates to begin with.
  void set_base_lrs(std::vector<double> rates) { base_lrs_ = std::move(rates); }

 private:
  friend class CosineAnnealingWarmRestarts;
  friend class SequentialLR;
  friend class ReduceLROnPlateau;
  void update_lr(std::optional<std::int64_t> epoch = std::nullopt);

  torch::optim::Optimizer& optimizer_;
  std::vector<double> base_lrs_;
  std::int64_t last_epoch_ = -1;
  std::int64_t step_count_ = 0;
  bool is_initial_ = false;
  std::vector<double> last_lr_;
};

// Rates times `gamma` every `step_size` epochs.
class StepLR : public LRScheduler {
 public:
  StepLR(torch::optim::Optimizer& optimizer, std::int64_t step_size, double gamma = 0.1);

 protected:
  std::vector<double> get_lr() override;
  std::optional<std::vector<double>> get_closed_form_lr() const override;
  std::vector<Field> fields() override;

 private:
  std::int64_t step_size_;
  double gamma_;
};

// Rates times `gamma` at each of the milestones; one given twice counts twice. Its state has them as a dict of
// epoch: count, where Python has a collections.Counter.
class MultiStepLR : public LRScheduler {
 public:
  MultiStepLR(torch::optim::Optimizer& optimizer, const std::vector<std::int64_t>& milestones, double gamma = 0.1);

 protected:
  std::vector<double> get_lr() override;
  std::optional<std::vector<double>> get_closed_form_lr() const override;
  std::vector<Field> fields() override;

 private:
  std::map<std::int64_t, std::int64_t> milestones_;  // epoch: how often
  double gamma_;
};

// Rates times `factor` for the first `total_iters` epochs. A factor of 0, which Python takes and then divides by, is
// a ValueError.
class ConstantLR : public LRScheduler {
 public:
  explicit ConstantLR(torch::optim::Optimizer& optimizer, double factor = 1.0 / 3, std::int64_t total_iters = 5);

 protected:
  std::vector<double> get_lr() override;
  std::optional<std::vector<double>> get_closed_form_lr() const override;
  std::vector<Field> fields() override;

 private:
  double factor_;
  std::int64_t total_iters_;
};

// Rates from `start_factor` to `end_factor` of what they were, in a line over `total_iters` epochs: a warm-up.
class LinearLR : public LRScheduler {
 public:
  explicit LinearLR(torch::optim::Optimizer& optimizer, double start_factor = 1.0 / 3, double end_factor = 1.0,
                    std::int64_t total_iters = 5);

 protected:
  std::vector<double> get_lr() override;
  std::optional<std::vector<double>> get_closed_form_lr() const override;
  std::vector<Field> fields() override;

 private:
  double start_factor_;
  double end_factor_;
  std::int64_t total_iters_;
};

// Rates times `gamma` every epoch.
class ExponentialLR : public LRScheduler {
 public:
  ExponentialLR(torch::optim::Optimizer& optimizer, double gamma);

 protected:
  std::vector<double> get_lr() override;
  std::optional<std::vector<double>> get_closed_form_lr() const override;
  std::vector<Field> fields() override;

 private:
  double gamma_;
};

// Half a cosine from the first rate to `eta_min` over `T_max` epochs, and back (https://arxiv.org/abs/1608.03983).
class CosineAnnealingLR : public LRScheduler {
 public:
  CosineAnnealingLR(torch::optim::Optimizer& optimizer, std::int64_t T_max, double eta_min = 0.0);

 protected:
  std::vector<double> get_lr() override;
  std::optional<std::vector<double>> get_closed_form_lr() const override;
  std::vector<Field> fields() override;

 private:
  std::int64_t T_max_;
  double eta_min_;
};

// The same cosine, which starts anew after T_0 epochs, then after T_0 * T_mult, and so on.
class CosineAnnealingWarmRestarts : public LRScheduler {
 public:
  CosineAnnealingWarmRestarts(torch::optim::Optimizer& optimizer, std::int64_t T_0, std::int64_t T_mult = 1,
                              double eta_min = 0.0);
  void step(std::optional<double> metric = std::nullopt) override;

 protected:
  std::vector<double> get_lr() override;
  std::vector<Field> fields() override;

 private:
  std::int64_t T_0_;
  std::int64_t T_i_;
  std::int64_t T_mult_;
  double eta_min_;
  double T_cur_ = 0;  // a fraction only after Python's step(epoch=0.5)
};

// The first rates times what a function of the epoch gives: one function for all groups, or one for each. Functions
// are not saved, as in Python: make the scheduler with the same ones.
class LambdaLR : public LRScheduler {
 public:
  using Lambda = std::function<double(std::int64_t epoch)>;
  LambdaLR(torch::optim::Optimizer& optimizer, Lambda lr_lambda);
  LambdaLR(torch::optim::Optimizer& optimizer, std::vector<Lambda> lr_lambdas);

 protected:
  std::vector<double> get_lr() override;
  std::vector<Field> fields() override;

 private:
  std::vector<Lambda> lr_lambdas_;
};

struct OneCycleLROptions {
  PerGroup max_lr;
  // How many steps the cycle has: total_steps, or epochs times steps_per_epoch.
  std::optional<std::int64_t> total_steps{};
  std::optional<std::int64_t> epochs{};
  std::optional<std::int64_t> steps_per_epoch{};
  double pct_start = 0.3;
  std::string anneal_strategy = "cos";  // or "linear"
  bool cycle_momentum = true;           // momentum, or beta1 of Adam and AdamW, goes the other way
  PerGroup base_momentum = 0.85;
  PerGroup max_momentum = 0.95;
  double div_factor = 25.0;
  double final_div_factor = 1e4;
  bool three_phase = false;
};

// Up to max_lr and down to nearly nothing in one cycle (https://arxiv.org/abs/1708.07120); step it after every batch.
// A step past total_steps is a ValueError. max_lr and the momenta are not in its state (Python keeps them in the
// optimizer's groups): make it with the same ones.
class OneCycleLR : public LRScheduler {
 public:
  OneCycleLR(torch::optim::Optimizer& optimizer, const OneCycleLROptions& options);

 protected:
  std::vector<double> get_lr() override;
  std::vector<Field> fields() override;
  Dict group_keys(std::size_t i) const override;
  bool chooses_base_lrs() const override { return true; }

 private:
  // The names are the group's keys in Python that a phase goes between.
  struct Phase {
    Value end_step;  // a float, but an int in the last phase
    std::string start_lr, end_lr, start_momentum, end_momentum;
  };

  void set_phases(double pct_start, bool three_phase);
  void set_limits(const OneCycleLROptions& options);
  std::pair<const Phase*, double> find_phase() const;  // of last_epoch(), and how far in it: 0 to 1
  const std::vector<double>& named(const std::string& name) const;
  double anneal(const std::string& start, const std::string& end, std::size_t group, double pct) const;
  Field phases_field();

  std::int64_t total_steps_ = 0;
  std::vector<Phase> phases_;
  std::string anneal_strategy_;
  bool cycle_momentum_;
  bool use_beta1_ = false;
  std::vector<double> initial_lrs_, max_lrs_, min_lrs_, max_momentums_, base_momentums_;  // one per group
};

// One scheduler after the other: the next one from each milestone on. The schedulers are made first, on the same
// optimizer, and must not be stepped by the caller; ReduceLROnPlateau and SequentialLR can't be among them
// (ValueError).
class SequentialLR : public LRScheduler {
 public:
  SequentialLR(torch::optim::Optimizer& optimizer, std::vector<std::shared_ptr<LRScheduler>> schedulers,
               std::vector<std::int64_t> milestones);
  void step(std::optional<double> metric = std::nullopt) override;

 protected:
  std::vector<double> get_lr() override;
  std::vector<Field> fields() override;
  Dict group_keys(std::size_t i) const override;

 private:
  void check_arguments() const;
  void rebase();
  std::size_t active() const;  // index of the scheduler for last_epoch()
  Field schedulers_field();

  std::vector<std::shared_ptr<LRScheduler>> schedulers_;
  std::vector<std::int64_t> milestones_;
};

struct ReduceLROnPlateauOptions {
  std::string mode = "min";  // the metric is better when lower; "max": when higher
  double factor = 0.1;
  std::int64_t patience = 10;
  double threshold = 1e-4;
  std::string threshold_mode = "rel";  // or "abs"
  std::int64_t cooldown = 0;
  PerGroup min_lr = 0.0;
  double eps = 1e-8;
};

// Rates times `factor` when the metric has not got better for `patience` epochs. step(metric) needs the metric.
class ReduceLROnPlateau : public LRScheduler {
 public:
  explicit ReduceLROnPlateau(torch::optim::Optimizer& optimizer, const ReduceLROnPlateauOptions& options = {});
  void step(std::optional<double> metric = std::nullopt) override;
  bool requires_metric() const override { return true; }

 protected:
  std::vector<double> get_lr() override;
  std::vector<Field> fields() override;
  Dict group_keys(std::size_t i) const override;

 private:
  bool is_better(double metric) const;
  double mode_worse() const;
  void reduce_lr();

  std::string mode_;
  double factor_;
  std::int64_t patience_;
  double threshold_;
  std::string threshold_mode_;
  std::int64_t cooldown_;
  std::optional<double> default_min_lr_;
  std::vector<double> min_lrs_;
  double eps_;
  double best_;
  std::int64_t cooldown_counter_ = 0;
  std::int64_t num_bad_epochs_ = 0;
};

}  // namespace ckptio
