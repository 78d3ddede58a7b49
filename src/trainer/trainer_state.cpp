// SPDX-License-Identifier: Apache-2.0
#include "trainer/trainer_state.h"

#include "ckptio/rng_state.h"
#include "trainer/generators.h"
#include "trainer/lightning_loops.h"

namespace ckptio::detail {

Dict LoopsState::state_dict() const {
  const AccumulationStart* start = run.goes_back_to();
  FitProgress progress = start != nullptr ? start->progress : run.progress;
  progress.elapsed = run.options.max_time ? run.elapsed() : std::chrono::nanoseconds{};
  if (start != nullptr) return save_loops(progress, start->metrics.state_dict(), {});
  return save_loops(progress, run.metrics.state_dict(), run.gradients());
}

void LoopsState::load_state_dict(const Dict& state) {
  LoadedLoops loaded = load_loops(state);
  if (!loaded.progress.n_train_batches) loaded.progress.n_train_batches = run.progress.n_train_batches;
  MetricStore metrics;
  if (loaded.metrics) metrics.load_state_dict(*loaded.metrics);
  run.metrics = std::move(metrics);
  run.resume_gradients = std::move(loaded.gradients);
  run.progress = std::move(loaded.progress);
}

Dict CallbacksState::state_dict() const {
  Dict states;
  for (const auto& callback : run.callbacks) {
    Dict state = callback->state_dict();
    if (state.empty()) continue;
    const std::string key = callback->state_key();
    if (states.contains(key)) {
      throw MisconfigurationError("Found more than one stateful callback of type `" + key +
                                  "`. In the current configuration, this callback does not support being saved "
                                  "alongside other instances of the same type. HINT: The `callback.state_key` must be "
                                  "unique among all callbacks in the Trainer.");
    }
    states[key] = std::move(state);
  }
  return states;
}

void CallbacksState::load_state_dict(const Dict& state) {
  Dict unused = state;
  for (const auto& callback : run.callbacks) {
    const std::string key = callback->state_key();
    if (const Value* saved = state.find(key)) callback->load_state_dict(saved->as<Dict>());
    unused.erase(key);
  }
  if (unused.empty()) return;
  std::string names;
  for (const auto& [key, value] : unused) names += (names.empty() ? "'" : ", '") + key.as<std::string>() + "'";
  run.trainer.print(
      "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be provided during "
      "`Trainer` instantiation. Please add the following callbacks: [" +
      names + "].");
}

Dict GeneratorsState::state_dict() const {
  if (run.resume_rng) return *run.resume_rng;
  if (const AccumulationStart* start = run.goes_back_to()) return *start->progress.redo_rng;
  if (run.progress.redo_rng) return *run.progress.redo_rng;
  return capture_generators();
}

void GeneratorsState::plan_load(const Dict& state, const std::string& prefix, LoadPlan& plan) {
  const std::size_t n_commits = plan.commits.size();
  RngState().plan_load(state, prefix, plan);
  plan.commits.resize(n_commits);  // its checks, but not yet what it would do
  plan.commits.push_back([this, state] { run.resume_rng = state; });
}

State TrainerState::select(const std::function<bool(const std::string& name)>& wanted) {
  State state;
  const auto add = [&](const char* name, auto&& object) {
    if (wanted(name)) state.add(name, object);
  };
  if (wanted("state_dict")) state.add("state_dict", *run_.module, run_.module->strict_loading());
  add("loops", loops_);
  add("callbacks", callbacks_);
  add("optimizer_states", run_.optimizers_and_schedulers.optimizers);
  add("lr_schedulers", lr_schedulers());
  add("rng_state", generators_);
  return state;
}

std::vector<LRScheduler*> TrainerState::lr_schedulers() const {
  std::vector<LRScheduler*> schedulers;
  for (const LRSchedulerConfig& config : run_.optimizers_and_schedulers.lr_schedulers) {
    schedulers.push_back(config.scheduler.get());
  }
  return schedulers;
}

}  // namespace ckptio::detail
