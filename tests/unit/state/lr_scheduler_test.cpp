// SPDX-License-Identifier: Apache-2.0
// That the rates are Python's is held by tests/interop/state; here: saving, restoring, refusing.
#include "ckptio/lr_scheduler.h"

#include <torch/torch.h>

#include <cmath>

#include "state_helpers.h"
#include "support/catch.h"

using namespace ckptio;

namespace {

// Two groups, with rates 0.1 and 0.01.
struct Groups {
  Groups() : sgd(make_groups(), torch::optim::SGDOptions(0.1).momentum(0.9)) {}
  static std::vector<torch::optim::OptimizerParamGroup> make_groups() {
    std::vector<torch::optim::OptimizerParamGroup> groups;
    groups.emplace_back(std::vector{torch::ones({2}, torch::requires_grad())});
    groups.emplace_back(std::vector{torch::ones({3}, torch::requires_grad())},
                        std::make_unique<torch::optim::SGDOptions>(torch::optim::SGDOptions(0.01).momentum(0.9)));
    return groups;
  }
  double lr(std::size_t i) const { return sgd.param_groups()[i].options().get_lr(); }
  torch::optim::SGD sgd;
};

using Make = std::function<std::shared_ptr<LRScheduler>(torch::optim::Optimizer&)>;
template <class T, class... Args>
Make make(Args... args) {
  return [=](torch::optim::Optimizer& optimizer) { return std::make_shared<T>(optimizer, args...); };
}

std::vector<Make> all() {
  return {make<StepLR>(2, 0.5),
          make<MultiStepLR>(std::vector<std::int64_t>{2, 2, 4}, 0.5),
          make<ConstantLR>(0.5, 3),
          make<LinearLR>(0.25, 1.0, 4),
          make<ExponentialLR>(0.9),
          make<CosineAnnealingLR>(4, 0.001),
          make<CosineAnnealingWarmRestarts>(2, 2),
          make<LambdaLR>(LambdaLR::Lambda([](std::int64_t epoch) { return std::pow(0.9, epoch); })),
          make<OneCycleLR>(OneCycleLROptions{.max_lr = 0.2, .total_steps = 12}),
          make<ReduceLROnPlateau>(ReduceLROnPlateauOptions{.patience = 1, .cooldown = 1}),
          [](torch::optim::Optimizer& optimizer) {
            std::vector<std::shared_ptr<LRScheduler>> parts{std::make_shared<LinearLR>(optimizer, 0.1, 1.0, 2),
                                                            std::make_shared<ExponentialLR>(optimizer, 0.9)};
            return std::make_shared<SequentialLR>(optimizer, parts, std::vector<std::int64_t>{2});
          }};
}

// Training stands still from the second epoch on.
double metric(int epoch) { return epoch < 2 ? 1.0 - 0.1 * epoch : 0.95; }

std::string load_error(LRScheduler& scheduler, const Dict& state) {
  try {
    scheduler.load_state_dict(state);
  } catch (const MismatchError& error) {
    return error.what();
  }
  return "no MismatchError";
}

}  // namespace

TEST_CASE("Every scheduler goes on as if it had not been interrupted", "[state][scheduler]") {
  const std::vector<Make> makers = all();
  for (std::size_t i = 0; i < makers.size(); ++i) {
    for (const int n_before : {0, 1, 2, 3, 5}) {
      Groups one, two;
      const auto uninterrupted = makers[i](one.sgd);
      for (int epoch = 0; epoch < n_before; ++epoch) uninterrupted->step(metric(epoch));
      const Dict saved = uninterrupted->state_dict();
      const Dict optimizer_state = state_dict(one.sgd);

      const auto resumed = makers[i](two.sgd);
      resumed->load_state_dict(saved);
      load_state_dict(two.sgd, optimizer_state);
      INFO("scheduler " << i << " after " << n_before << ": " << saved);
      CHECK(Value(resumed->state_dict()) == Value(saved));
      CHECK(resumed->last_epoch() == uninterrupted->last_epoch());
      for (int epoch = n_before; epoch < 10; ++epoch) {
        uninterrupted->step(metric(epoch));
        resumed->step(metric(epoch));
        CHECK(resumed->get_last_lr() == uninterrupted->get_last_lr());
        CHECK(two.lr(0) == one.lr(0));
        CHECK(two.lr(1) == one.lr(1));
      }
      CHECK(Value(state_dict(two.sgd)) == Value(state_dict(one.sgd)));  // OneCycleLR moves the momentum too
    }
  }
}

TEST_CASE("Another scheduler's state is refused and changes nothing", "[state][scheduler]") {
  const std::vector<Make> makers = all();
  for (std::size_t from = 0; from < makers.size(); ++from) {
    for (std::size_t into = 0; into < makers.size(); ++into) {
      if (from == into) continue;
      Groups one, two;
      const auto source = makers[from](one.sgd);
      const auto target = makers[into](two.sgd);
      const Dict before = target->state_dict();
      CHECK_THROWS_AS(target->load_state_dict(source->state_dict()), MismatchError);
      CHECK(Value(target->state_dict()) == Value(before));
    }
  }
}

TEST_CASE("Everything in a scheduler's state that does not fit is in one error", "[state][scheduler]") {
  Groups groups;
  StepLR scheduler(groups.sgd, 3);
  const Dict before = scheduler.state_dict();
  Dict state = before;
  state["step_size"] = 0;
  state["gamma"] = "half";
  state["base_lrs"] = List{0.1};
  state["last_epoch"] = std::numeric_limits<std::int64_t>::max();
  state["T_max"] = 3;
  state.erase("_last_lr");
  const std::string error = load_error(scheduler, state);
  INFO(error);
  for (const char* part :
       {"load_state_dict of StepLR", "missing (1)", "_last_lr", "unexpected (1)", "T_max: StepLR has no such entry",
        "mismatched (4)", "step_size: 1 or more expected, found 0", "gamma: float expected, found str",
        "base_lrs: 2 values expected, found 1", "last_epoch: -1 or more expected"}) {
    INFO(part);
    CHECK(error.find(part) != std::string::npos);
  }
  CHECK(Value(scheduler.state_dict()) == Value(before));
}

TEST_CASE("States of older Pythons are taken", "[state][scheduler]") {
  Groups groups;
  StepLR step(groups.sgd, 3);
  Dict state = step.state_dict();
  state.erase("_is_initial");
  state["verbose"] = false;
  step.load_state_dict(state);
  ReduceLROnPlateau plateau(groups.sgd);
  Dict plateau_state = plateau.state_dict();
  plateau_state.erase("default_min_lr");
  plateau_state["best"] = 3;  // an int is a float
  plateau.load_state_dict(plateau_state);
  CHECK(plateau.state_dict().at("best") == Value(3.0));
}

TEST_CASE("A saved scheduler brings its sizes and factors, as in Python", "[state][scheduler]") {
  Groups one, two;
  StepLR saved(one.sgd, 2, 0.5);
  StepLR loaded(two.sgd, 30, 0.1);
  loaded.load_state_dict(saved.state_dict());
  for (int i = 0; i < 4; ++i) {
    saved.step();
    loaded.step();
  }
  CHECK(two.lr(0) == one.lr(0));
  CHECK(two.lr(0) == 0.1 * 0.5 * 0.5);
}

TEST_CASE("ReduceLROnPlateau needs its metric; the others don't mind one", "[state][scheduler]") {
  Groups groups;
  ReduceLROnPlateau plateau(groups.sgd);
  CHECK(plateau.requires_metric());
  CHECK_THROWS_AS(plateau.step(), ValueError);
  CHECK(plateau.last_epoch() == 0);
  ExponentialLR exponential(groups.sgd, 0.5);
  CHECK_FALSE(exponential.requires_metric());
  exponential.step(3.0);
  CHECK(groups.lr(0) == 0.05);
}

TEST_CASE("A sequence's parts begin with the rates before the first was made, in whatever order they were",
          "[state][scheduler]") {
  Groups groups;
  auto decay = std::make_shared<LambdaLR>(groups.sgd, [](std::int64_t) { return 0.5; });
  auto warmup = std::make_shared<LinearLR>(groups.sgd, 0.1, 1.0, 2);
  SequentialLR sequence(groups.sgd, {warmup, decay}, {2});
  CHECK(groups.lr(0) == 0.1 * 0.1);
  sequence.step();
  sequence.step();
  CHECK(groups.lr(0) == 0.05);
  CHECK(groups.lr(1) == 0.005);
}

TEST_CASE("A sequence refuses parts that it can't drive", "[state][scheduler]") {
  Groups groups, others;
  const auto part = std::make_shared<ExponentialLR>(groups.sgd, 0.9);
  const auto foreign = std::make_shared<ExponentialLR>(others.sgd, 0.9);
  const auto plateau = std::make_shared<ReduceLROnPlateau>(groups.sgd);
  const auto nested = std::make_shared<SequentialLR>(groups.sgd, std::vector<std::shared_ptr<LRScheduler>>{part},
                                                     std::vector<std::int64_t>{});
  using Parts = std::vector<std::shared_ptr<LRScheduler>>;
  const std::vector<std::int64_t> at_two{2};
  CHECK_THROWS_AS(SequentialLR(groups.sgd, Parts{}, {}), ValueError);
  CHECK_THROWS_AS(SequentialLR(groups.sgd, Parts{part}, at_two), ValueError);
  CHECK_THROWS_AS(SequentialLR(groups.sgd, Parts({part, foreign}), at_two), ValueError);
  CHECK_THROWS_AS(SequentialLR(groups.sgd, Parts({part, plateau}), at_two), ValueError);
  CHECK_THROWS_AS(SequentialLR(groups.sgd, Parts({part, nested}), at_two), ValueError);
  CHECK_THROWS_AS(SequentialLR(groups.sgd, Parts({part, nullptr}), at_two), ValueError);
}

TEST_CASE("Arguments out of range are refused", "[state][scheduler]") {
  Groups groups;
  CHECK_THROWS_AS(StepLR(groups.sgd, 0), ValueError);
  CHECK_THROWS_AS(ConstantLR(groups.sgd, 0.0), ValueError);
  CHECK_THROWS_AS(LinearLR(groups.sgd, 1.5), ValueError);
  CHECK_THROWS_AS(CosineAnnealingLR(groups.sgd, 0), ValueError);
  CHECK_THROWS_AS(CosineAnnealingWarmRestarts(groups.sgd, 1, 0), ValueError);
  CHECK_THROWS_AS(OneCycleLR(groups.sgd, {.max_lr = 0.1}), ValueError);
  CHECK_THROWS_AS(OneCycleLR(groups.sgd, {.max_lr = {0.1, 0.2, 0.3}, .total_steps = 3}), ValueError);
  CHECK_THROWS_AS(ReduceLROnPlateau(groups.sgd, {.mode = "best"}), ValueError);
  CHECK_THROWS_AS(ReduceLROnPlateau(groups.sgd, {.min_lr = {1.0}}), ValueError);
  CHECK(groups.lr(0) == 0.1);
}

TEST_CASE("OneCycleLR ends with its steps", "[state][scheduler]") {
  Groups groups;
  OneCycleLR one_cycle(groups.sgd, {.max_lr = {0.2, 0.02}, .total_steps = 4});
  for (int i = 0; i < 4; ++i) one_cycle.step();
  CHECK_THROWS_AS(one_cycle.step(), ValueError);
}

TEST_CASE("What Python's schedulers keep in the optimizer's groups can be added", "[state][scheduler]") {
  Groups groups;
  OneCycleLR one_cycle(groups.sgd, {.max_lr = {0.2, 0.02}, .total_steps = 4});
  Dict state = state_dict(groups.sgd);
  one_cycle.add_group_keys(state);
  CHECK(state.at("param_groups")[1].at("initial_lr") == Value(0.02 / 25));
  CHECK(state.at("param_groups")[1].at("max_lr") == Value(0.02));
  CHECK(state.at("param_groups")[0].at("base_momentum") == Value(0.85));
  load_state_dict(groups.sgd, state);
  Dict other{{"param_groups", List{Dict{}}}};
  CHECK_THROWS_AS(one_cycle.add_group_keys(other), ValueError);
}

namespace {

// As the documentation of LRScheduler shows.
class HalvingLR : public LRScheduler {
 public:
  HalvingLR(torch::optim::Optimizer& optimizer, std::int64_t period) : LRScheduler(optimizer), period_(period) {
    initial_step();
  }

 protected:
  std::vector<double> get_lr() override { return scaled(last_epoch() > 0 && last_epoch() % period_ == 0 ? 0.5 : 1.0); }
  std::vector<Field> fields() override { return with_base_fields({field("period", period_, Range::kPositive)}); }

 private:
  std::int64_t period_;
};

}  // namespace

TEST_CASE("A scheduler of the user's own saves and restores its members", "[state][scheduler]") {
  Groups one, two;
  HalvingLR saved(one.sgd, 2);
  saved.step();
  HalvingLR loaded(two.sgd, 5);
  loaded.load_state_dict(saved.state_dict());
  loaded.step();
  CHECK(two.lr(0) == 0.05);
  CHECK_THROWS_AS(loaded.load_state_dict({{"period", 0}}), MismatchError);
}
