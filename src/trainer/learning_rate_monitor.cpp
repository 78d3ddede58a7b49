// SPDX-License-Identifier: Apache-2.0
// Names and times are those of pytorch_lightning/callbacks/lr_monitor.py, 2.6.6.
#include "ckptio/trainer/learning_rate_monitor.h"

#include <c10/util/Type.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <typeinfo>
#include <vector>

#include "ckptio/error.h"
#include "ckptio/trainer/trainer.h"

namespace ckptio {
namespace {

using torch::optim::Optimizer;

// An optimizer with the name of its rate, in the order in which they are written.
struct Named {
  Optimizer* optimizer;
  std::string name;
  std::string interval;  // its scheduler's; "any" where there is none
};

std::string class_name(const Optimizer& optimizer) {
  const std::string name = c10::demangle(typeid(optimizer).name());
  const std::size_t colon = name.rfind(':');
  return colon == std::string::npos ? name : name.substr(colon + 1);
}

class Names {
 public:
  // Lightning counts a class's optimizers with a scheduler once for each of their schedulers; so do we.
  void add(Optimizer& optimizer, const std::string& interval) {
    const std::string name = class_name(optimizer);
    const std::int64_t count = ++counts_[name];
    named_.push_back(
        {&optimizer, "lr-" + name + (count > 1 ? "-" + std::to_string(count - 1) : std::string()), interval});
  }
  bool contains(const Optimizer& optimizer) const {
    return std::ranges::any_of(named_, [&](const Named& known) { return known.optimizer == &optimizer; });
  }
  const std::vector<Named>& all() const { return named_; }

 private:
  std::vector<Named> named_;
  std::map<std::string, std::int64_t> counts_;
};

Names names_of(const OptimizersAndSchedulers& live) {
  Names names;
  for (const LRSchedulerConfig& config : live.lr_schedulers) {
    names.add(config.scheduler->optimizer(), config.options.interval);
  }
  for (const auto& optimizer : live.optimizers) {
    if (!names.contains(*optimizer)) names.add(*optimizer, "any");
  }
  return names;
}

double momentum_of(const torch::optim::OptimizerOptions& options) {
  using namespace torch::optim;
  if (const auto* sgd = dynamic_cast<const SGDOptions*>(&options)) return sgd->momentum();
  if (const auto* rmsprop = dynamic_cast<const RMSpropOptions*>(&options)) return rmsprop->momentum();
  if (const auto* adam = dynamic_cast<const AdamOptions*>(&options)) return std::get<0>(adam->betas());
  if (const auto* adamw = dynamic_cast<const AdamWOptions*>(&options)) return std::get<0>(adamw->betas());
  return 0;
}

double weight_decay_of(const torch::optim::OptimizerOptions& options) {
  using namespace torch::optim;
  if (const auto* sgd = dynamic_cast<const SGDOptions*>(&options)) return sgd->weight_decay();
  if (const auto* rmsprop = dynamic_cast<const RMSpropOptions*>(&options)) return rmsprop->weight_decay();
  if (const auto* adam = dynamic_cast<const AdamOptions*>(&options)) return adam->weight_decay();
  if (const auto* adamw = dynamic_cast<const AdamWOptions*>(&options)) return adamw->weight_decay();
  if (const auto* adagrad = dynamic_cast<const AdagradOptions*>(&options)) return adagrad->weight_decay();
  return 0;
}

}  // namespace

LearningRateMonitor::LearningRateMonitor(LearningRateMonitorOptions options) : options_(std::move(options)) {
  const auto& interval = options_.logging_interval;
  if (interval && *interval != "step" && *interval != "epoch") {
    throw MisconfigurationError("logging_interval should be `step` or `epoch` or unset, got `" + *interval + "`.");
  }
}

void LearningRateMonitor::on_train_start(Trainer& trainer, TrainingModule&) {
  written_step_ = -1;
  if (trainer.loggers().empty() && trainer.options().fast_dev_run == 0) {
    throw MisconfigurationError("Cannot use `LearningRateMonitor` callback with `Trainer` that has no logger.");
  }
}

void LearningRateMonitor::on_train_epoch_start(Trainer& trainer, TrainingModule& module) {
  if (options_.logging_interval == "step") return;
  write(trainer, module, options_.logging_interval ? "any" : "epoch");
}

void LearningRateMonitor::on_train_batch_start(Trainer& trainer, TrainingModule& module, std::int64_t) {
  if (options_.logging_interval == "epoch") return;
  const std::int64_t step = trainer.global_step();
  if ((step + 1) % trainer.options().log_every_n_steps != 0 || step == written_step_) return;
  written_step_ = step;
  write(trainer, module, options_.logging_interval ? "any" : "step");
}

std::map<std::string, double> LearningRateMonitor::stats(const Trainer& trainer, const std::string& interval) const {
  std::map<std::string, double> stats;
  const Names names = names_of(trainer.optimizers_and_schedulers());
  for (const auto& [optimizer, name, of_scheduler] : names.all()) {
    if (interval != "any" && of_scheduler != "any" && of_scheduler != interval) continue;
    const auto& groups = optimizer->param_groups();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const std::string full = groups.size() > 1 ? name + "/pg" + std::to_string(i + 1) : name;
      stats[full] = groups[i].options().get_lr();
      if (options_.log_momentum) stats[full + "-momentum"] = momentum_of(groups[i].options());
      if (options_.log_weight_decay) stats[full + "-weight_decay"] = weight_decay_of(groups[i].options());
    }
  }
  return stats;
}

// The metrics of the step that begins are written under the number of steps before it.
void LearningRateMonitor::write(const Trainer& trainer, TrainingModule& module, const std::string& interval) const {
  const auto latest = stats(trainer, interval);
  if (latest.empty()) return;
  for (const auto& [name, rate] : latest) module.log(name, rate, {.logger = false});
  for (const auto& logger : trainer.loggers()) logger->log_metrics(latest, trainer.global_step());
}

}  // namespace ckptio
