// SPDX-License-Identifier: Apache-2.0
// What Lightning 2.6.6 saves in each hook, seen by running it; E epochs, g steps and b batches of this epoch are done:
//
//   hook                  epoch_progress      batch_progress   is_last_batch  val batch_progress
//                         (ready started processed completed, of `current`)
//   between epochs        E   E   E   E       b b b b          true           n n n n
//   on_train_batch_end    E+1 E+1 E   E       b b b b-1        of this batch
//   on_validation_end     E+1 E+1 E   E       b b b b          true           n n n n
//   on_train_epoch_end    E+1 E+1 E+1 E       b b b b          true           n n n n
//
// `b` before E was counted up. Schedulers that end an epoch have stepped by the last on_train_batch_end, those that
// need a metric only after on_train_epoch_end: ours step before it, so that the checkpoint is whole. Resumed from one
// saved after the last batch, Lightning goes on with the next epoch: it does not validate again.
#include "trainer/lightning_loops.h"

#include <array>
#include <string_view>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

constexpr const char* kOurKey = "ckptio";
constexpr std::array<std::string_view, 4> kStageNames{"not_begun", "training", "validated", "ended"};

EpochStage stage_named(const Value& name) {
  for (std::size_t i = 0; i < kStageNames.size(); ++i) {
    if (name.as<std::string>() == kStageNames[i]) return static_cast<EpochStage>(i);
  }
  throw ValueError(name.path() + ": '" + name.as<std::string>() + "' is no stage of an epoch");
}

template <class T>
Value value_or_null(const std::optional<T>& value) {
  return value ? Value(*value) : Value();
}

// ------------------------------------------------------------------------------------------------------------ saving

// Lightning's tracker: an event is counted at up to four points. Not all have `started` and `processed`.
struct Counts {
  std::int64_t ready = 0, started = 0, processed = 0, completed = 0;
  static Counts all(std::int64_t n) { return {n, n, n, n}; }
};

Dict two(const Counts& counts) { return {{"ready", counts.ready}, {"completed", counts.completed}}; }

Dict three(const Counts& counts) {
  Dict result = two(counts);
  result["started"] = counts.started;
  return result;
}

Dict four(const Counts& counts) {
  Dict result = three(counts);
  result["processed"] = counts.processed;
  return result;
}

Dict progress(Dict total, Dict current) { return {{"total", std::move(total)}, {"current", std::move(current)}}; }

Dict batch_progress(const Counts& total, const Counts& current, bool is_last_batch) {
  Dict result = progress(four(total), four(current));
  result["is_last_batch"] = is_last_batch;
  return result;
}

Dict optimizer_progress(std::int64_t total, std::int64_t current) {
  const Counts t = Counts::all(total), c = Counts::all(current);
  return {{"optimizer", Dict{{"step", progress(two(t), two(c))}, {"zero_grad", progress(three(t), three(c))}}}};
}

// As on_train_batch_end has it.
Counts in_batch_end(std::int64_t n) { return {n, n, n, n - 1}; }

Dict epoch_loop(const FitProgress& at) {
  const bool between = at.stage == EpochStage::kNotBegun;
  const bool validated = !between && at.validated_batches > 0 && at.validated_batches == at.batches_done;
  const std::int64_t batches = between && at.epoch > 0 ? at.n_train_batches.value_or(0) : at.batches_done;
  const bool in_hook = batches > 0 && !between && at.stage != EpochStage::kEnded && !validated;
  const auto count = in_hook ? in_batch_end : Counts::all;
  const bool is_last = at.stage == EpochStage::kTraining ? at.all_batches_done : batches > 0;
  const std::int64_t n_val = between || validated ? at.n_val_batches : 0;
  const bool stepped = at.accumulated_batches == 0;
  const bool counts_step_later =
      stepped && (in_hook || at.stage == EpochStage::kValidated || (validated && at.stage == EpochStage::kTraining));
  return {{"epoch_loop.state_dict", Dict{{"_batches_that_stepped", at.global_step - (counts_step_later ? 1 : 0)}}},
          {"epoch_loop.batch_progress", batch_progress(count(at.total_batches), count(batches), is_last)},
          {"epoch_loop.scheduler_progress",
           progress(two(Counts::all(at.total_scheduler_steps)), two(Counts::all(at.scheduler_steps)))},
          {"epoch_loop.automatic_optimization.state_dict", Dict{}},
          {"epoch_loop.automatic_optimization.optim_progress", optimizer_progress(at.global_step, at.epoch_steps)},
          {"epoch_loop.manual_optimization.state_dict", Dict{}},
          {"epoch_loop.manual_optimization.optim_step_progress", progress(two({}), two({}))},
          {"epoch_loop.val_loop.state_dict", Dict{}},
          {"epoch_loop.val_loop.batch_progress", batch_progress(Counts::all(n_val), Counts::all(n_val), n_val > 0)}};
}

Dict epoch_progress(const FitProgress& at) {
  const bool begun = at.stage != EpochStage::kNotBegun;
  const bool processed = at.stage == EpochStage::kEnded;
  const Counts counts{at.epoch + begun, at.epoch + begun, at.epoch + processed, at.epoch};
  return progress(four(counts), four(counts));
}

Dict idle_loop(bool predicts) {
  Dict batches = batch_progress({}, {}, false);
  if (predicts) batches.erase("is_last_batch");
  return {{"state_dict", Dict{}}, {"batch_progress", std::move(batches)}};
}

// ----------------------------------------------------------------------------------------------------------- loading

std::int64_t count(const Value& value) {
  const auto n = value.as<std::int64_t>();
  if (n < 0) throw ValueError(value.path() + ": a count expected, found " + std::to_string(n));
  return n;
}

std::int64_t count(const Value& counts, const char* name) { return count(counts.at(name)); }

Counts four(const Value& counts) {
  return {count(counts, "ready"), count(counts, "started"), count(counts, "processed"), count(counts, "completed")};
}

std::int64_t epoch_steps(const Value& fit_loop) {
  const Value& automatic = fit_loop.at("epoch_loop.automatic_optimization.optim_progress");
  return count(automatic.at("optimizer").at("step").at("current"), "completed");
}

std::int64_t optimizer_steps(const Value& fit_loop) {
  const Value& automatic = fit_loop.at("epoch_loop.automatic_optimization.optim_progress");
  std::int64_t n = count(automatic.at("optimizer").at("step").at("total"), "completed");
  if (fit_loop.contains("epoch_loop.manual_optimization.optim_step_progress")) {
    n += count(fit_loop.at("epoch_loop.manual_optimization.optim_step_progress").at("total"), "completed");
  }
  return n;
}

// Lightning counts a batch as completed after its on_train_batch_end; so a checkpoint saved in an epoch's midst with it
// completed is one of a validation, which was the last thing to be done.
std::int64_t validated_batches(const Counts& batches, EpochStage stage) {
  if (stage == EpochStage::kNotBegun) return 0;
  return stage != EpochStage::kTraining || batches.completed == batches.processed ? batches.processed : 0;
}

// Which hook the counters tell of; see the table above.
EpochStage stage_of(const Counts& epochs, const Counts& batches, bool is_last_batch, const Value& val) {
  if (epochs.started <= epochs.processed) {
    if (epochs.completed < epochs.processed) return EpochStage::kEnded;
    // Stopped by max_steps, or resumed after a last batch: Lightning goes on in the epoch without counting it as begun.
    return batches.processed > 0 && !is_last_batch ? EpochStage::kTraining : EpochStage::kNotBegun;
  }
  const std::int64_t n_val = count(val.at("total"), "ready");
  const bool validated =
      n_val > 0 && count(val.at("total"), "completed") == n_val && val.at("is_last_batch").as<bool>();
  const bool all_done = is_last_batch && batches.ready == batches.completed;
  return all_done && validated ? EpochStage::kValidated : EpochStage::kTraining;
}

void load_ours(const Dict& ours, FitProgress& progress) {
  progress.n_train_batches = ours.at("n_train_batches").as<std::optional<std::int64_t>>();
  const auto rng = [&](const char* name) {
    const Value& saved = ours.at(name);
    return saved.is_null() ? std::nullopt : std::optional(saved.as<Dict>());
  };
  progress.epoch_rng = rng("epoch_rng_state");
  progress.fetch_rng = rng("fetch_rng_state");
  if (const Value* loader = ours.find("loader_state")) progress.loader_state = loader->as<Dict>();
  progress.accumulated_batches = count(ours.at("accumulated_batches"));
  progress.validated_batches = count(ours.at("validated_batches"));
  if (const Value* elapsed = ours.find("elapsed_ns")) progress.elapsed = std::chrono::nanoseconds(count(*elapsed));
}

}  // namespace

Dict save_loops(const FitProgress& at, Dict metrics, Dict gradients) {
  Dict fit_loop{{"state_dict", Dict{}}};
  for (auto& [key, value] : epoch_loop(at)) fit_loop[key] = std::move(value);
  fit_loop["epoch_progress"] = epoch_progress(at);
  fit_loop[kOurKey] = Dict{{"stage", kStageNames[static_cast<std::size_t>(at.stage)]},
                           {"n_train_batches", value_or_null(at.n_train_batches)},
                           {"epoch_rng_state", value_or_null(at.epoch_rng)},
                           {"fetch_rng_state", value_or_null(at.fetch_rng)},
                           {"accumulated_batches", at.accumulated_batches},
                           {"validated_batches", at.validated_batches},
                           {"metrics", std::move(metrics)}};
  Value& ours = fit_loop[kOurKey];
  if (at.elapsed.count() > 0) ours["elapsed_ns"] = static_cast<std::int64_t>(at.elapsed.count());
  if (at.loader_state) ours["loader_state"] = *at.loader_state;
  if (!gradients.empty()) ours["gradients"] = std::move(gradients);
  return {{"fit_loop", std::move(fit_loop)},
          {"validate_loop", idle_loop(false)},
          {"test_loop", idle_loop(false)},
          {"predict_loop", idle_loop(true)}};
}

LoadedLoops load_loops(const Dict& loops) {
  const Value& fit_loop = loops.at("fit_loop");
  const Value& batch_progress = fit_loop.at("epoch_loop.batch_progress");
  const Value& val_progress = fit_loop.at("epoch_loop.val_loop.batch_progress");
  const Value& schedulers = fit_loop.at("epoch_loop.scheduler_progress");
  const Counts epochs = four(fit_loop.at("epoch_progress").at("current"));
  const Counts batches = four(batch_progress.at("current"));
  const bool is_last_batch = batch_progress.at("is_last_batch").as<bool>();
  const Value* ours = fit_loop.as<Dict>().find(kOurKey);

  LoadedLoops loaded;
  FitProgress& at = loaded.progress;
  at.stage = ours != nullptr ? stage_named(ours->at("stage")) : stage_of(epochs, batches, is_last_batch, val_progress);
  at.epoch = epochs.processed;
  if (at.stage == EpochStage::kEnded && at.epoch-- == 0) {
    throw ValueError(fit_loop.at("epoch_progress").path() + ": an epoch has ended, but none was processed");
  }
  at.global_step = optimizer_steps(fit_loop);
  at.epoch_steps = epoch_steps(fit_loop);
  at.batches_done = at.stage == EpochStage::kNotBegun ? 0 : batches.processed;
  at.total_batches = count(batch_progress.at("total"), "processed");
  at.all_batches_done = is_last_batch && batches.ready == batches.processed;
  at.n_val_batches = count(val_progress.at("current"), "completed");
  at.scheduler_steps = count(schedulers.at("current"), "completed");
  at.total_scheduler_steps = count(schedulers.at("total"), "completed");
  if (ours != nullptr) {
    load_ours(ours->as<Dict>(), at);
    loaded.metrics = ours->at("metrics").as<Dict>();
    if (const Value* gradients = ours->as<Dict>().find("gradients")) loaded.gradients = gradients->as<Dict>();
  } else {
    if (at.all_batches_done) at.n_train_batches = batches.processed;
    at.validated_batches = validated_batches(batches, at.stage);
    at.lacks_metrics = true;
  }
  return loaded;
}

std::int64_t current_epoch(const Dict& loops) {
  return count(loops.at("fit_loop").at("epoch_progress").at("current"), "processed");
}

}  // namespace ckptio::detail
