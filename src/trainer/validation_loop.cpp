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

void run_batches(Run& run, BatchSource& source) {
  const auto limit = run.options.limit_val_batches;
  source.begin();
  for (std::int64_t batch_idx = 0; (!limit || batch_idx < *limit) && source.next(); ++batch_idx) {
    run.metrics.begin_step(MetricStore::Stage::kValidation, source.batch_size());
    source.step(batch_idx);
    run.metrics.end_step();
    run.call(&Callback::on_validation_batch_end, batch_idx);
  }
}

}  // namespace

void run_validation(Run& run, BatchSource& source, const std::function<void()>& done) {
  const EvalMode eval_mode(*run.module);
  const torch::NoGradGuard no_grad;
  run.call_around(&Callback::on_validation_start, &TrainingModule::on_validation_start);
  run.metrics.begin_epoch(MetricStore::Stage::kValidation);
  run_batches(run, source);
  run.metrics.end_epoch(MetricStore::Stage::kValidation);
  run.module->on_validation_epoch_end();
  done();
  run.call(&Callback::on_validation_end);
}

}  // namespace ckptio::detail
