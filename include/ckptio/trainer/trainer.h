// SPDX-License-Identifier: Apache-2.0
// Trainer: runs a TrainingModule over batches, and saves and resumes all of it through one CheckpointIO.
//
//   ckptio::Trainer trainer({.max_epochs = 2, .plugins = {std::make_shared<MyCheckpointIO>()}});
//   trainer.fit(*net, *train_loader, *val_loader);
//   trainer.save_checkpoint("last.ckpt");
//   ...
//   trainer.fit(*net, *train_loader, *val_loader, "last.ckpt");  // goes on where the checkpoint was saved
//
// What a checkpoint holds, in this order: epoch, global_step, pytorch-lightning_version, ckptio_version, state_dict
// (the module), loops (where in the epoch, as Lightning counts it; under `ckptio` in it the running means and the
// generators as they were when the epoch began), callbacks, optimizer_states, lr_schedulers, rng_state (the generators
// now), hyper_parameters (if the module has any), and what hooks add. With PythonCheckpointIO that is a checkpoint of
// Lightning's: a run begun here goes on in Python by Trainer.fit(ckpt_path=...), and one begun there goes on here,
// with the same batches done, rates and optimizer states. What such a checkpoint does not hold (generators, metrics)
// is as at the start of a run.
//
// Resuming is exact: a checkpoint saved after any step continues with the next batch of the same shuffle and the same
// random draws, and ends bit for bit as if the run had never stopped, wherever the computation itself is
// deterministic. How, depends on the loader:
//
//   StatefulDataLoader (make_stateful_data_loader), and any loader with state_dict() and load_state_dict(const Dict&),
//       after which begin() goes on behind the batches that had been given (looked at by *iterator): the checkpoint
//       holds its state, and nothing is fetched twice. With worker threads, see stateful_data_loader.h.
//   LibTorch's DataLoader with a RandomSampler or SequentialSampler, a vector, and all else whose order is fixed or
//       drawn from the default generator when an epoch begins: the batches already done are fetched again and passed
//       over. With worker threads the order of batches is exact, and random numbers drawn by transforms are not.
//   Others, streams and samplers that keep a state from epoch to epoch: the same, which may give other batches.
//
// A resume within an epoch warns of a loader for which that is not known to be exact, by its name.
//
// Threads: one thread uses a Trainer.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ckptio/checkpoint_io.h"
#include "ckptio/trainer/batch_limit.h"
#include "ckptio/trainer/batch_source.h"
#include "ckptio/trainer/callback.h"
#include "ckptio/trainer/logger.h"
#include "ckptio/trainer/plugin_registry.h"
#include "ckptio/trainer/strategy.h"
#include "ckptio/trainer/training_module.h"

namespace ckptio {

namespace detail {
struct Run;  // src/trainer/run.h
}

struct TrainerOptions {
  // Epochs to train in all, those before a resume included; -1: no end. Unset: 1000, or no end if max_steps or
  // max_time is set.
  std::optional<std::int64_t> max_epochs{};
  // Trainer::stop() and EarlyStopping end no run before so many epochs and steps are done.
  std::int64_t min_epochs = 0;
  // Optimizer steps to train in all, those before a resume included; -1: no limit.
  std::int64_t max_steps = -1;
  std::int64_t min_steps = 0;
  // Training ends after the step during which this much time has passed since training began, that before a resume
  // included.
  std::optional<std::chrono::nanoseconds> max_time{};

  // Validation runs in every so many epochs; 0: val_check_interval counts batches over all epochs.
  std::int64_t check_val_every_n_epoch = 1;
  // Within such an epoch, after every so many batches, or parts of the epoch (0.25: four times); 1.0: at its end.
  BatchLimit val_check_interval{};
  // Before training begins, validate on so many batches; -1: on all. What it logs is dropped, and the generators are
  // put back. (Lightning's default is 2.)
  std::int64_t num_sanity_val_steps = 0;

  // At most so many batches, or such a part of them, per epoch and per validation, ...
  BatchLimit limit_train_batches{};
  BatchLimit limit_val_batches{};
  BatchLimit limit_test_batches{};
  BatchLimit limit_predict_batches{};
  // So many batches of each kind, one epoch, no checkpoints, no loggers: to see that all runs. 0: off.
  std::int64_t fast_dev_run = 0;

  // Optimizers step after every so many batches, and after the last one of an epoch; the loss is divided by it.
  // Checkpoints saved in between hold the gradients. Not for optimizers that evaluate their closure again (LBFGS).
  std::int64_t accumulate_grad_batches = 1;
  // Gradients are clipped before each step: "norm": to this norm over each optimizer's parameters, "value": each
  // element to at most this magnitude.
  std::optional<double> gradient_clip_val{};
  std::string gradient_clip_algorithm = "norm";

  // Seeds the default generators when fit begins, before the first shuffle. Not the module's initialisation, which
  // is over by then: torch::manual_seed before making it.
  std::optional<std::uint64_t> seed{};
  // LibTorch's deterministic algorithms, for as long as the Trainer's runs last; operations without one throw.
  bool deterministic = false;
  // SIGTERM and SIGINT end fit after the step, or the validation, that runs: callbacks save (Callback::on_interrupt),
  // fit returns, and Trainer::interrupted() says which it was. A second one ends the process as ever.
  bool handle_signals = true;

  // Adds a ProgressBar, unless there is one among the callbacks.
  bool enable_progress_bar = true;
  // true: adds a ModelCheckpoint, unless there is one among the callbacks; false: refuses callbacks that save
  // checkpoints. (Lightning's default is true.)
  std::optional<bool> enable_checkpointing{};
  // How often what steps log goes to the loggers.
  std::int64_t log_every_n_steps = 50;

  // Where callbacks put their files unless told otherwise.
  std::string default_root_dir = ".";

  // Takes the Trainer's messages, a line each without its end. By default they go to std::clog.
  std::function<void(std::string_view line)> print{};

  // What max_time and ModelCheckpoint's train_time_interval measure with; tests set their own. By default the system's
  // monotonic clock.
  std::function<std::chrono::steady_clock::time_point()> clock{};

  // How the run is spread over devices; by default on one.
  std::shared_ptr<Strategy> strategy{};

  std::vector<std::shared_ptr<Logger>> loggers{};

  std::vector<std::shared_ptr<Callback>> callbacks{};

  // A CheckpointIO or its name, one at most; TorchCheckpointIO where there is none. A WrappingCheckpointIO without a
  // base gets a TorchCheckpointIO.
  std::vector<Plugin> plugins{};
};

class Trainer {
 public:
  Trainer();
  // MisconfigurationError for options that do not go together: two plugins, two stateful callbacks with one
  // state_key, a limit below its range.
  explicit Trainer(TrainerOptions options);
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  ~Trainer();

  // Trains `module` on `train_loader`, and validates it on `val_loader` at the end of epochs. Starts from the
  // beginning, or where the checkpoint `ckpt_path` was saved.
  //   module        a TrainingModule, a pointer to one, or a module holder
  //   train_loader  any range of batches, or a pointer to one; begun anew for each epoch. LibTorch's DataLoaders are
  //                 such; with worker threads LibTorch can't begin one again that was left in the middle of an epoch
  //   val_loader    the same, or std::nullopt
  // All are borrowed; the module for as long as save_checkpoint may be called.
  //
  //   ckpt_path     a path; "best": the first ModelCheckpoint's best_model_path; "last": the newest checkpoint named
  //                 `last` or saved by an OnExceptionCheckpoint, or the beginning where there is none. Unset: what
  //                 set_ckpt_path() says; or, if an OnExceptionCheckpoint is among the callbacks, "last"; or the
  //                 beginning.
  //
  // Errors: whatever the module, the loaders and the callbacks throw, unchanged, after on_exception and teardown.
  // What the plugin's load_checkpoint throws; and for a checkpoint that does not fit this run: MismatchError (other
  // parameters, optimizers or schedulers), KeyError (it holds only weights), MisconfigurationError (it is past
  // max_epochs). On any of these the module is as it was; a plugin that restores in place answers for that itself.
  template <class Module, class TrainLoader, class ValLoader = const std::nullopt_t&>
  void fit(Module&& module, TrainLoader&& train_loader, ValLoader&& val_loader = std::nullopt,
           const std::optional<std::string>& ckpt_path = std::nullopt);

  // Runs validation_step over `loader`, in eval mode and without gradients, and returns the metrics it logged. With
  // `ckpt_path` the weights and the callbacks' states come from there first; without, what a fit of the same module
  // reached stays, and save_checkpoint saves it. Errors as of fit.
  template <class Module, class Loader>
  std::map<std::string, double> validate(Module&& module, Loader&& loader,
                                         const std::optional<std::string>& ckpt_path = std::nullopt);

  // The same with test_step.
  template <class Module, class Loader>
  std::map<std::string, double> test(Module&& module, Loader&& loader,
                                     const std::optional<std::string>& ckpt_path = std::nullopt);

  // The same with predict_step; returns what it returned, batch by batch.
  template <class Module, class Loader>
  auto predict(Module&& module, Loader&& loader, const std::optional<std::string>& ckpt_path = std::nullopt);

  // Where the next runs without a ckpt_path of their own start; std::nullopt: as if never called.
  void set_ckpt_path(std::optional<std::string> ckpt_path);
  // Of the run that is on or was last, what it was restored from.
  const std::optional<std::string>& ckpt_path() const noexcept;

  // Saves the run as it stands; `weights_only` leaves out callbacks, optimizers, schedulers and generators. On return
  // the run may go on, whatever the plugin; an asynchronous one may still be writing. May be called by hooks and,
  // after fit, by anybody. Saved in the middle of a step (by on_exception), a checkpoint resumes with that step, or,
  // where gradients are accumulated, with the first batch of it; buffers are as the forward pass left them. Errors:
  // MisconfigurationError before any fit or validate; what the plugin throws.
  void save_checkpoint(const std::string& path, bool weights_only = false,
                       const std::optional<Dict>& storage_options = std::nullopt);

  // The same for callbacks that run last: with an asynchronous plugin the parameters and the optimizers' states are
  // still being copied on return (all else is copied). The Trainer waits for that before anything changes them.
  // Callback::on_checkpoint_saved tells when it is durable; so does the future.
  SaveFuture async_save_checkpoint(const std::string& path, bool weights_only = false,
                                   const std::optional<Dict>& storage_options = std::nullopt);
  // While a checkpoint is made to be saved (on_save_checkpoint, state_dict): where to; empty otherwise.
  const std::string& saving_path() const noexcept;
  // Returns when no save of this Trainer is still copying tensors. Throws nothing: a save that failed says so later.
  void wait_until_staged() noexcept;

  // Removes a checkpoint; of an asynchronous plugin after the saves before it are durable.
  void remove_checkpoint(const std::string& path);

  // The checkpoint that save_checkpoint would save, its hooks included; tensors are the live ones.
  Checkpoint dump_checkpoint(bool weights_only = false);

  std::int64_t current_epoch() const noexcept;  // epochs done; inside one, its index
  std::int64_t global_step() const noexcept;    // optimizer steps done
  // In a training epoch: its last batch is done, or the one that runs is the last.
  bool is_last_batch() const noexcept;
  // In a fit: a validation will run in this epoch, after the batch that runs now or a later one.
  bool validates_in_epoch() const noexcept;
  // In a fit: validation runs at the end of epochs, and not in their midst.
  bool validates_at_epoch_end() const noexcept;
  // In a fit: it validates at all.
  bool has_validation() const noexcept;
  // In on_train_batch_end: a validation runs right after it.
  bool validates_after_batch() const noexcept;
  // A validation that only shows that it can run.
  bool sanity_checking() const noexcept;
  // "fit", "validate", "test" or "predict" while it runs, or was run last; empty before.
  const std::string& stage() const noexcept;
  // Per epoch; with a loader that can't tell, unknown before the end of the first.
  std::optional<std::int64_t> n_train_batches() const noexcept;
  // Of the validation, test or prediction that runs or ran last, where it is known.
  std::optional<std::int64_t> n_eval_batches() const noexcept;
  const std::optional<std::int64_t>& max_epochs() const noexcept;  // unset: no end

  // The latest value of every logged metric, and of those to show in a progress bar.
  const std::map<std::string, double>& callback_metrics() const noexcept;
  std::map<std::string, double> progress_bar_metrics() const;

  // Ends training after the step, or the validation, that runs now, once min_epochs and min_steps are done.
  void stop() noexcept;
  // The signal that ended the last fit.
  const std::optional<int>& interrupted() const noexcept;
  // options().clock's time.
  std::chrono::steady_clock::time_point now() const;
  bool should_stop() const noexcept;

  CheckpointIO& checkpoint_io() const noexcept;
  const TrainerOptions& options() const noexcept;
  Strategy& strategy() const noexcept;
  const std::vector<std::shared_ptr<Callback>>& callbacks() const noexcept;
  // None in a fast_dev_run.
  const std::vector<std::shared_ptr<Logger>>& loggers() const noexcept;
  // Of the run that is on or was last; empty before.
  const OptimizersAndSchedulers& optimizers_and_schedulers() const noexcept;

  // A message to the user, by options().print.
  void print(std::string_view line) const;

 private:
  friend class TrainingModule;

  void fit_sources(TrainingModule& module, detail::BatchSource& train, detail::BatchSource* val,
                   const std::optional<std::string>& ckpt_path);
  // `stage`: "validate", "test" or "predict".
  std::map<std::string, double> evaluate_source(const std::string& stage, TrainingModule& module,
                                                detail::BatchSource& source,
                                                const std::optional<std::string>& ckpt_path);
  void attach(TrainingModule& module);
  void require_module() const;
  void begin_run(TrainingModule& module);
  void run_stage(const std::string& stage, const std::function<void()>& body);
  void teardown(const std::string& stage);

  std::unique_ptr<detail::Run> run_;
};

// ---------------------------------------------------------------------------------------------------------------
// Below: bodies of templates.

namespace detail {

template <class Module>
auto& as_module(Module& module) {
  if constexpr (std::derived_from<Module, TrainingModule>) {
    return module;
  } else {
    static_assert(
        requires { static_cast<TrainingModule&>(*module); }, "the module must derive from TrainingModule");
    return *module;
  }
}

template <class Loader>
auto& as_loader(Loader& loader) {
  if constexpr (BatchRange<Loader>) {
    return loader;
  } else {
    static_assert(
        requires { begin_of(*loader); }, "the loader must be a range of batches, or a pointer to one");
    return *loader;
  }
}

template <class Module, class Loader>
auto training_source(Module& module, Loader& loader) {
  auto step = [&module](auto& batch, std::int64_t batch_idx) -> torch::Tensor {
    static_assert(
        requires {
          { module.training_step(batch, batch_idx) } -> std::convertible_to<torch::Tensor>;
        },
        "the module needs training_step(batch, batch_idx) for the loader's batches, returning the loss");
    return module.training_step(batch, batch_idx);
  };
  return LoaderSource<Loader, decltype(step)>(loader, std::move(step));
}

template <class Module, class Loader>
auto validation_source(Module& module, Loader& loader) {
  auto step = [&module](auto& batch, std::int64_t batch_idx) {
    static_assert(
        requires { module.validation_step(batch, batch_idx); },
        "the module needs validation_step(batch, batch_idx) for the loader's batches");
    module.validation_step(batch, batch_idx);
  };
  return LoaderSource<Loader, decltype(step)>(loader, std::move(step));
}

template <class Module, class Loader>
auto test_source(Module& module, Loader& loader) {
  auto step = [&module](auto& batch, std::int64_t batch_idx) {
    static_assert(
        requires { module.test_step(batch, batch_idx); },
        "the module needs test_step(batch, batch_idx) for the loader's batches");
    module.test_step(batch, batch_idx);
  };
  return LoaderSource<Loader, decltype(step)>(loader, std::move(step));
}

template <class Module, class Loader>
using Prediction = std::remove_cvref_t<decltype(std::declval<Module&>().predict_step(
    std::declval<std::remove_reference_t<BatchReference<Loader>>&>(), std::int64_t{}))>;

}  // namespace detail

template <class Module, class TrainLoader, class ValLoader>
void Trainer::fit(Module&& module, TrainLoader&& train_loader, ValLoader&& val_loader,
                  const std::optional<std::string>& ckpt_path) {
  auto& live = detail::as_module(module);
  auto train = detail::training_source(live, detail::as_loader(train_loader));
  if constexpr (std::same_as<std::remove_cvref_t<ValLoader>, std::nullopt_t>) {
    fit_sources(live, train, nullptr, ckpt_path);
  } else {
    auto val = detail::validation_source(live, detail::as_loader(val_loader));
    fit_sources(live, train, &val, ckpt_path);
  }
}

template <class Module, class Loader>
std::map<std::string, double> Trainer::validate(Module&& module, Loader&& loader,
                                                const std::optional<std::string>& ckpt_path) {
  auto& live = detail::as_module(module);
  auto source = detail::validation_source(live, detail::as_loader(loader));
  return evaluate_source("validate", live, source, ckpt_path);
}

template <class Module, class Loader>
std::map<std::string, double> Trainer::test(Module&& module, Loader&& loader,
                                            const std::optional<std::string>& ckpt_path) {
  auto& live = detail::as_module(module);
  auto source = detail::test_source(live, detail::as_loader(loader));
  return evaluate_source("test", live, source, ckpt_path);
}

template <class Module, class Loader>
auto Trainer::predict(Module&& module, Loader&& loader, const std::optional<std::string>& ckpt_path) {
  auto& live = detail::as_module(module);
  auto& batches = detail::as_loader(loader);
  using Loaded = std::remove_reference_t<decltype(batches)>;
  std::vector<detail::Prediction<std::remove_reference_t<decltype(live)>, Loaded>> predictions;
  auto step = [&](auto& batch, std::int64_t batch_idx) { predictions.push_back(live.predict_step(batch, batch_idx)); };
  detail::LoaderSource<Loaded, decltype(step)> source(batches, std::move(step));
  evaluate_source("predict", live, source, ckpt_path);
  return predictions;
}

}  // namespace ckptio
