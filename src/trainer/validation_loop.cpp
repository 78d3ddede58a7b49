// SPDX-License-Identifier: Apache-2.0
#include "trainer/validation_loop.h"

#include <torch/utils.h>

#include <utility>

namespace ckptio::detail {
namespace {

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
std::int64_t run_batches(Run& run, BatchSource& source, const std::function<void(std::int64_t batch_idx)>& after_each) {
  const auto limit = run.options.limit_val_batches;
  std::int64_t batch_idx = 0;
  run.metrics.begin_epoch(MetricStore::Stage::kValidation);
  source.begin();
  for (; (!limit || batch_idx < *limit) && source.next(); ++batch_idx) {
    run.metrics.begin_step(MetricStore::Stage::kValidation, source.batch_size());
    source.step(batch_idx);
    run.metrics.end_step();
    after_each(batch_idx);
  }
  run.metrics.end_epoch(MetricStore::Stage::kValidation);
  run.module->on_validation_epoch_end();
  return batch_idx;
}

}  // namespace

void run_validation(Run& run, BatchSource& source, const std::function<void(std::int64_t n_batches)>& done) {
  const EvalMode eval_mode(*run.module);
  const torch::NoGradGuard no_grad;
  run.call_around(&Callback::on_validation_start, &TrainingModule::on_validation_start);
  done(run_batches(run, source, [&](std::int64_t i) { run.call(&Callback::on_validation_batch_end, i); }));
  run.call(&Callback::on_validation_end);
}

void measure_validation(Run& run, BatchSource& source) {
  const EvalMode eval_mode(*run.module);
  const torch::NoGradGuard no_grad;
  run_batches(run, source, [](std::int64_t) {});
}

}  // namespace ckptio::detail
