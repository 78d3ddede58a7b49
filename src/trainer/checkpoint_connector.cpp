// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint_connector.h"

#include <algorithm>

#include "ckptio/verify.h"
#include "ckptio/version.h"
#include "trainer/find_checkpoint.h"
#include "trainer/lightning_loops.h"
#include "trainer/trainer_state.h"
#include "value/n_bytes.h"

namespace ckptio::detail {
namespace {

using Clock = std::chrono::steady_clock;

Checkpoint load(Run& run, const std::string& path, LoadTiming& timing) {
  const auto begin = Clock::now();
  std::optional<Checkpoint> checkpoint = run.checkpoint_io().load_checkpoint(path);
  timing.loading = Clock::now() - begin;
  if (!checkpoint) {
    throw TypeError("load '" + path +
                    "': the plugin returned nullopt, which says that all was restored in place, but its "
                    "requires_state_on_load() is false, so it had nothing to restore into");
  }
  timing.n_bytes = n_bytes_of(*checkpoint);
  return std::move(*checkpoint);
}

void require_training_state(const Checkpoint& checkpoint, const char* key, const char* what) {
  if (checkpoint.contains(key)) return;
  throw KeyError(std::string("Trying to restore ") + what +
                 " state but checkpoint contains only the model. This is probably due to "
                 "`ModelCheckpoint.save_weights_only` being set to `True`.");
}

void check_epoch(const Run& run, std::int64_t epoch) {
  if (!run.max_epochs || epoch <= *run.max_epochs) return;
  throw MisconfigurationError("You restored a checkpoint with current_epoch=" + std::to_string(epoch) +
                              ", but you have set Trainer(max_epochs=" + std::to_string(*run.max_epochs) + ").");
}

// What Python's schedulers keep in the groups of their optimizer, and some can't go on without.
void add_group_keys(const OptimizersAndSchedulers& live, Value& optimizer_states) {
  for (const LRSchedulerConfig& config : live.lr_schedulers) {
    for (std::size_t i = 0; i < live.optimizers.size(); ++i) {
      if (live.optimizers[i].get() != &config.scheduler->optimizer()) continue;
      config.scheduler->add_group_keys(optimizer_states.at(i).mutable_as<Dict>());
    }
  }
}

void check_count(const char* what, std::size_t n_saved, std::size_t n_here) {
  if (n_saved == n_here) return;
  throw MismatchError("the checkpoint has the states of " + std::to_string(n_saved) + " " + what +
                      ", configure_optimizers gave " + std::to_string(n_here));
}

// Nothing of an epoch that has ended is left to do: current_epoch() is the next one. Unless, in a checkpoint of
// Lightning's, a scheduler still waits for a metric of it; see FitLoop::measure_lost_metrics.
void leave_ended_epoch(Run& run) {
  FitProgress& progress = run.progress;
  if (progress.stage != EpochStage::kEnded) return;
  const auto needs_metric = [](const LRSchedulerConfig& config) { return config.scheduler->requires_metric(); };
  const bool may_wait =
      progress.lacks_metrics && std::ranges::any_of(run.optimizers_and_schedulers.lr_schedulers, needs_metric);
  if (!may_wait) progress.to_next_epoch();
}

Dict copy_weights(const torch::nn::Module& module) {
  Dict weights = state_dict(module);
  verify(weights);
  for (auto& [name, weight] : weights) weight = weight.as<at::Tensor>().clone();
  return weights;
}

void apply_to_model(Run& run, Checkpoint& checkpoint) {
  load_state_dict(*run.module, checkpoint.at("state_dict").as<Dict>(), run.module->strict_loading());
}

void apply_to_callbacks(Run& run, const Checkpoint& checkpoint) {
  run.call(&Callback::on_load_checkpoint, checkpoint);
  if (const Value* states = checkpoint.find("callbacks")) CallbacksState{run}.load_state_dict(states->as<Dict>());
}

// Loads through a plugin that restores in place, and applies what it leaves to do. Returns what the hooks may see: what
// the plugin returned, or, where it returned nothing, the state as it is now.
void load_in_place(Run& run, const std::string& path, const std::function<bool(const std::string&)>& wanted,
                   LoadTiming& timing) {
  TrainerState live(run);
  State state = live.select(wanted);
  const auto begin = Clock::now();
  std::optional<Checkpoint> rest = run.checkpoint_io().load_checkpoint(path, {.state = &state});
  timing.loading = Clock::now() - begin;
  Checkpoint seen = rest ? *rest : state.state_dict();
  timing.n_bytes = n_bytes_of(seen);
  run.module->on_load_checkpoint(seen);
  run.call(&Callback::on_load_checkpoint, std::as_const(seen));
  if (!rest) return;
  live.select([&](const std::string& name) { return wanted(name) && seen.contains(name); }).load_state_dict(seen);
}

}  // namespace

void reserve_for_saves(Run& run) {
  const auto saves = [](const auto& callback) { return callback->saves_checkpoints(); };
  if (!run.checkpoint_io().saves_asynchronously() || std::ranges::none_of(run.callbacks, saves)) return;
  const auto is_large = [](const std::string& name) { return name == "state_dict" || name == "optimizer_states"; };
  Checkpoint large;
  try {
    large = TrainerState(run).select(is_large).state_dict();
  } catch (const Error&) {  // whoever saves it says so; weights alone may be all that is saved
    return;
  }
  run.checkpoint_io().reserve(large);
}

Checkpoint dump_checkpoint(Run& run, bool weights_only) {
  TrainerState live(run);
  const auto in_every_checkpoint = [](const std::string& name) { return name == "state_dict" || name == "loops"; };
  Checkpoint checkpoint{{"epoch", run.progress.epoch},
                        {"global_step", run.progress.global_step},
                        {"pytorch-lightning_version", kLightningVersion},
                        {"ckptio_version", kVersion}};
  Dict state =
      live.select([&](const std::string& name) { return !weights_only || in_every_checkpoint(name); }).state_dict();
  for (auto& [name, value] : state) checkpoint[name] = std::move(value);
  if (!weights_only) add_group_keys(run.optimizers_and_schedulers, checkpoint.at("optimizer_states"));
  if (const Dict& parameters = run.module->hyper_parameters(); !parameters.empty()) {
    checkpoint["hyper_parameters"] = parameters;
  }
  if (!weights_only) run.call(&Callback::on_save_checkpoint, checkpoint);
  run.module->on_save_checkpoint(checkpoint);
  return checkpoint;
}

FitResume::~FitResume() {
  if (!weights_before_) return;
  try {
    load_state_dict(*run_.module, *weights_before_);
  } catch (const std::exception& error) {
    run_.trainer.print(std::string("putting the weights back after a failed resume failed too: ") + error.what());
  }
}

void FitResume::restore_model() {
  if (!path_ || run_.checkpoint_io().requires_state_on_load()) return;
  checkpoint_ = load(run_, *path_, timing_);
  const auto begin = Clock::now();
  require_training_state(*checkpoint_, "optimizer_states", "optimizer");
  require_training_state(*checkpoint_, "lr_schedulers", "learning rate scheduler");
  check_epoch(run_, current_epoch(checkpoint_->at("loops").as<Dict>()));
  run_.module->on_load_checkpoint(*checkpoint_);
  weights_before_ = copy_weights(*run_.module);
  apply_to_model(run_, *checkpoint_);
  apply_to_callbacks(run_, *checkpoint_);
  timing_.applying += Clock::now() - begin;
}

void FitResume::restore_training() {
  if (!path_) return;
  const auto begin = Clock::now();
  if (run_.checkpoint_io().requires_state_on_load()) {
    restore_in_place();
  } else {
    check_counts();
    TrainerState live(run_);
    live.select([this](const std::string& name) {
          return name != "state_dict" && name != "callbacks" && checkpoint_->contains(name);
        })
        .load_state_dict(*checkpoint_);
    timing_.applying += Clock::now() - begin;
  }
  weights_before_.reset();
  checkpoint_.reset();
  leave_ended_epoch(run_);
  run_.trainer.print("Restored all states from the checkpoint at " + *path_);
  run_.call(&Callback::on_checkpoint_loaded, *path_, timing_);
}

void FitResume::restore_in_place() {
  load_in_place(
      run_, *path_, [](const std::string&) { return true; }, timing_);
  check_epoch(run_, run_.progress.epoch);
}

void FitResume::check_counts() const {
  const OptimizersAndSchedulers& here = run_.optimizers_and_schedulers;
  check_count("optimizers", checkpoint_->at("optimizer_states").size(), here.optimizers.size());
  check_count("learning rate schedulers", checkpoint_->at("lr_schedulers").size(), here.lr_schedulers.size());
}

void restore_for_evaluation(Run& run, const std::string& path) {
  LoadTiming timing;
  if (run.checkpoint_io().requires_state_on_load()) {
    const auto wanted = [](const std::string& name) { return name == "state_dict" || name == "callbacks"; };
    load_in_place(run, path, wanted, timing);
  } else {
    Checkpoint checkpoint = load(run, path, timing);
    const auto begin = Clock::now();
    run.module->on_load_checkpoint(checkpoint);
    apply_to_model(run, checkpoint);
    apply_to_callbacks(run, checkpoint);
    timing.applying = Clock::now() - begin;
  }
  run.trainer.print("Loaded model weights from the checkpoint at " + path);
  run.call(&Callback::on_checkpoint_loaded, path, timing);
}

std::optional<std::string> find_ckpt_path(Run& run, const std::optional<std::string>& given) {
  std::optional<std::string> wanted = given ? given : run.sticky_ckpt_path;
  if (given && run.sticky_ckpt_path) {
    run.trainer.print("`set_ckpt_path(\"" + *run.sticky_ckpt_path + "\")` was called before, but then you passed `" +
                      run.stage + "(ckpt_path=\"" + *given + "\")`. The latter will be loaded.");
  }
  if (!wanted && run.stage == "fit" && has_on_exception_checkpoint(run.trainer)) {
    run.trainer.print(
        "`.fit(ckpt_path=)` was not set, and an OnExceptionCheckpoint is among the callbacks: the last checkpoint will "
        "be loaded, if there is one.");
    wanted = "last";
  }
  if (wanted == "best" || wanted == "last") wanted = find_checkpoint(run.trainer, *wanted, run.stage.c_str());
  run.ckpt_path = wanted;
  return wanted;
}

}  // namespace ckptio::detail
