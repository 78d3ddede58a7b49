// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluation_loop.h"

#include <torch/utils.h>

#include <algorithm>
#include <utility>

#include "trainer/generators.h"
#include "trainer/log_metrics.h"

namespace ckptio::detail {
namespace {

using Hook = void (Callback::*)(Trainer&, TrainingModule&);
using BatchHook = void (Callback::*)(Trainer&, TrainingModule&, std::int64_t);
using ModuleHook = void (TrainingModule::*)();

struct StageHooks {
  Hook on_start, on_epoch_start;
  BatchHook on_batch_start, on_batch_end;
  Hook on_epoch_end, on_end;
  ModuleHook module_on_start, module_on_epoch_start, module_on_epoch_end, module_on_end;
};

const StageHooks& hooks_of(const std::string& stage) {
  static const StageHooks validation{
      &Callback::on_validation_start,           &Callback::on_validation_epoch_start,
      &Callback::on_validation_batch_start,     &Callback::on_validation_batch_end,
      &Callback::on_validation_epoch_end,       &Callback::on_validation_end,
      &TrainingModule::on_validation_start,     &TrainingModule::on_validation_epoch_start,
      &TrainingModule::on_validation_epoch_end, &TrainingModule::on_validation_end};
  static const StageHooks test{&Callback::on_test_start,           &Callback::on_test_epoch_start,
                               &Callback::on_test_batch_start,     &Callback::on_test_batch_end,
                               &Callback::on_test_epoch_end,       &Callback::on_test_end,
                               &TrainingModule::on_test_start,     &TrainingModule::on_test_epoch_start,
                               &TrainingModule::on_test_epoch_end, &TrainingModule::on_test_end};
  static const StageHooks prediction{&Callback::on_predict_start,           &Callback::on_predict_epoch_start,
                                     &Callback::on_predict_batch_start,     &Callback::on_predict_batch_end,
                                     &Callback::on_predict_epoch_end,       &Callback::on_predict_end,
                                     &TrainingModule::on_predict_start,     &TrainingModule::on_predict_epoch_start,
                                     &TrainingModule::on_predict_epoch_end, &TrainingModule::on_predict_end};
  return stage == "validate" ? validation : stage == "test" ? test : prediction;
}

// Users freeze parts of a module by eval(): so each submodule gets its own mode back, not the whole module's.
class EvalMode {
 public:
  explicit EvalMode(torch::nn::Module& module) {
    for (auto& child : module.modules(/*include_self=*/false)) children_.emplace_back(child, child->is_training());
    module_ = {&module, module.is_training()};
    module.eval();
  }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;
  ~EvalMode() {
    module_.first->train(module_.second);
    // Parents come before their children, so the innermost setting is the last.
    for (auto& [child, training] : children_) child->train(training);
  }

 private:
  std::pair<torch::nn::Module*, bool> module_;
  std::vector<std::pair<std::shared_ptr<torch::nn::Module>, bool>> children_;
};

// Returns how many there were.
std::int64_t run_batches(Run& run, BatchSource& source, std::optional<std::int64_t> limit,
                         const std::function<void(std::int64_t batch_idx)>& before_each,
                         const std::function<void(std::int64_t batch_idx)>& after_each) {
  std::int64_t batch_idx = 0;
  run.metrics.begin_epoch(MetricStore::Stage::kEvaluation);
  source.begin();
  for (; (!limit || batch_idx < *limit) && source.next(); ++batch_idx) {
    before_each(batch_idx);
    run.metrics.begin_step(MetricStore::Stage::kEvaluation, source.batch_size());
    source.step(batch_idx);
    run.metrics.end_step();
    after_each(batch_idx);
  }
  run.metrics.end_epoch(MetricStore::Stage::kEvaluation);
  return batch_idx;
}

}  // namespace

void run_evaluation(Run& run, const std::string& stage, BatchSource& source, std::optional<std::int64_t> limit,
                    const std::function<void(std::int64_t n_batches)>& done) {
  const StageHooks& hooks = hooks_of(stage);
  const EvalMode eval_mode(*run.module);
  const torch::NoGradGuard no_grad;
  const auto n_available = source.n_batches();
  run.n_eval_batches = n_available && limit ? std::min(*n_available, *limit) : n_available;
  run.call_around(hooks.on_start, hooks.module_on_start);
  run.call_around(hooks.on_epoch_start, hooks.module_on_epoch_start);
  const std::int64_t n_batches = run_batches(
      run, source, limit, [&](std::int64_t i) { run.call(hooks.on_batch_start, i); },
      [&](std::int64_t i) { run.call(hooks.on_batch_end, i); });
  run.call_around(hooks.on_epoch_end, hooks.module_on_epoch_end);
  if (!run.sanity_checking) log_evaluation_metrics(run);
  done(n_batches);
  run.call_around(hooks.on_end, hooks.module_on_end);
}

void measure_validation(Run& run, BatchSource& source, std::optional<std::int64_t> limit) {
  const EvalMode eval_mode(*run.module);
  const torch::NoGradGuard no_grad;
  const auto nothing = [](std::int64_t) {};
  run_batches(run, source, limit, nothing, nothing);
  run.module->on_validation_epoch_end();
}

void run_sanity_check(Run& run, BatchSource& source) {
  const std::int64_t n_steps = run.options.num_sanity_val_steps;
  if (n_steps == 0) return;
  std::optional<std::int64_t> limit = run.shape.n_val_batches;
  if (n_steps > 0) limit = limit ? std::min(*limit, n_steps) : n_steps;
  const Dict generators = capture_generators();
  const MetricStore metrics = run.metrics;
  run.sanity_checking = true;
  run.call(&Callback::on_sanity_check_start);
  run_evaluation(run, "validate", source, limit, [](std::int64_t) {});
  run.call(&Callback::on_sanity_check_end);
  run.sanity_checking = false;
  run.metrics = metrics;
  restore_generators(generators);
}

}  // namespace ckptio::detail
