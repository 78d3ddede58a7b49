// SPDX-License-Identifier: Apache-2.0
// ModelCheckpoint: saves checkpoints during a fit and keeps the best of them, the last, or all. Names are Lightning's.
//
//   auto best = std::make_shared<ckptio::ModelCheckpoint>(ckptio::ModelCheckpointOptions{
//       .dirpath = "run", .filename = "{epoch:02d}-{val_loss:.2f}", .monitor = "val_loss", .save_last = true,
//       .save_top_k = 3});
//   ckptio::Trainer trainer({.max_epochs = 10, .callbacks = {best}});
//   trainer.fit(*net, *train_loader, *val_loader, "last");  // resumes, or begins where there is nothing yet
//   trainer.test(*net, *test_loader, best->best_model_path());
//
// What you can rely on, with every plugin and also if the process is killed:
// - A checkpoint is removed only after the one that takes its place can be loaded. With a plugin that saves
//   asynchronously that is later than the step that saved; loggers hear of it then, too.
// - A save that fails changes nothing: not what this class knows, nor the files that were there.
// - `last` is at every moment a whole checkpoint, once there was one.
// - Removed are only checkpoints that this run wrote, or the run that it resumed by that one's checkpoint, and of these
//   only in the folder `dirpath`; never the one that this run was resumed from (a run that goes on from a later one
//   may).
// - Checkpoints hold the paths of others relative to themselves: a run whose folder was moved resumes. A run that is
//   resumed with another dirpath leaves the old folder as it is, and takes over only best_model_path.
//
// Threads: used by the thread that called fit.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ckptio/trainer/callback.h"

namespace ckptio {

namespace detail {
class CheckpointBook;  // src/trainer/checkpoints/checkpoint_book.h
struct BookPage;
struct SaveEntry;
enum class SaveKind;
}  // namespace detail

// Whether there is a `last` checkpoint: false; true, a file of its own; or "link", a link to the newest checkpoint,
// which costs neither time nor room. ValueError for any other string.
class SaveLast {
 public:
  SaveLast(bool enabled = false) noexcept : enabled_(enabled) {}
  SaveLast(std::nullopt_t) noexcept {}
  SaveLast(const char* kind) : SaveLast(std::string(kind)) {}
  SaveLast(const std::string& kind);

  explicit operator bool() const noexcept { return enabled_; }
  bool is_link() const noexcept { return link_; }

 private:
  bool enabled_ = false;
  bool link_ = false;
};

struct ModelCheckpointOptions {
  // Where to: a folder (`~` is the home) or a URI. Unset: `checkpoints` in the first logger's folder, or in the
  // Trainer's default_root_dir.
  std::optional<std::string> dirpath{};
  // A template: "{name}" and "{name:format}", with Python's formats, stand for a metric, `epoch` or `step`; a metric
  // that is not there is 0. A `/` makes folders. Unset: "{epoch}-{step}". `.ckpt` is added.
  std::optional<std::string> filename{};
  // The metric that tells which checkpoints are the best; also `epoch` or `step`. Unset: the newest is the best.
  std::optional<std::string> monitor{};
  // Says by Trainer::print what is saved, and what is not.
  bool verbose = false;
  // As `last.ckpt`. Written when a best one is saved, by the step and time triggers always, and at the end of training
  // if that saved nothing, or only `last` at the ends of epochs (save_top_k = 0).
  SaveLast save_last{};
  // How many of the best to keep; -1: all, 0: none. Without a monitor -1, 0 or 1.
  std::int64_t save_top_k = 1;
  // If training ends by an exception, saves once more, under the usual name. That file is kept. A signal saves whatever
  // this says; without a monitor, as the newest and so the best.
  bool save_on_exception = false;
  // Leaves out optimizers, schedulers, callbacks and generators: nothing can be resumed from such a file.
  bool save_weights_only = false;
  // "min" or "max": which values of the monitor are the better ones.
  std::string mode = "min";
  // Fills a template's "{epoch}" with "epoch=3" rather than "3".
  bool auto_insert_metric_name = true;
  // When to save; one of three, 0: never. After every so many optimizer steps; after the first step that ends so long
  // after the last such save (Trainer::now); at the end of every so many epochs. None of them: every_n_epochs = 1.
  // Training that ends within such an epoch (max_steps, Trainer::stop()) saves too, unless there is a monitor.
  // At a step, a monitor that has no value yet, or gets a new one by the validation right after, is waited for.
  std::optional<std::int64_t> every_n_train_steps{};
  std::optional<std::chrono::nanoseconds> train_time_interval{};
  std::optional<std::int64_t> every_n_epochs{};
  // Whether the end of an epoch is on_train_epoch_end, or else each on_validation_end. Unset: the former, unless
  // validation runs within epochs, or not in each.
  std::optional<bool> save_on_train_epoch_end{};
  // A name that is taken gets "-v1", "-v2", ...; otherwise what is there is replaced.
  bool enable_version_counter = true;

  // Ours: saves `last` whenever a checkpoint is due, and at the end of training, though it may be none of the best: it
  // is always the newest. With save_last = "link" it is then a file of its own.
  bool save_last_always = false;
};

class ModelCheckpoint : public Callback {
 public:
  // MisconfigurationError for numbers out of range, an unknown mode, several triggers, or a top k of nothing.
  explicit ModelCheckpoint(ModelCheckpointOptions options = {});
  ~ModelCheckpoint() override;

  // The parts that names are made of; change them before fit.
  std::string CHECKPOINT_JOIN_CHAR = "-";
  std::string CHECKPOINT_EQUALS_CHAR = "=";
  std::string CHECKPOINT_NAME_LAST = "last";  // a template as well
  std::string FILE_EXTENSION = ".ckpt";
  std::int64_t STARTING_VERSION = 1;

  const ModelCheckpointOptions& options() const noexcept { return options_; }
  // The folder, absolute if it is of this machine; empty if unset and before the first fit.
  const std::string& dirpath() const noexcept { return dirpath_; }

  // Of the last fit, with saves that are still going on counted as done. Empty, or nullopt, where there is none.
  const std::string& best_model_path() const noexcept;
  std::optional<double> best_model_score() const noexcept;
  const std::string& kth_best_model_path() const noexcept;  // the worst of those kept; the next to go
  std::optional<double> kth_value() const noexcept;
  const std::string& last_model_path() const noexcept;
  // Of the checkpoint that was saved last for its score. NaN counts as the worst there is, an infinity.
  std::optional<double> current_score() const noexcept;
  std::map<std::string, double> best_k_models() const;  // paths and scores; empty without a monitor

  // The path of a checkpoint for these metrics: numbers, or tensors with one element. `filename`: a template instead of
  // the option's; `ver`: adds "-v<ver>"; `prefix`: comes first. ValueError for a format that does not fit its number.
  std::string format_checkpoint_name(const Dict& metrics, const std::optional<std::string>& filename = std::nullopt,
                                     std::optional<std::int64_t> ver = std::nullopt,
                                     const std::optional<std::string>& prefix = std::nullopt) const;

  // Writes best_k_models() as YAML, at once; unset: as `best_k_models.yaml` in the folder. IoError.
  void to_yaml(const std::optional<std::string>& filepath = std::nullopt) const;

  // Paths of what is called `last`, whatever follows, in the folder that this callback would use; of this machine only.
  std::vector<std::string> find_last_checkpoints(const Trainer& trainer) const;

  void setup(Trainer& trainer, TrainingModule& module, const std::string& stage) override;
  void teardown(Trainer& trainer, TrainingModule& module, const std::string& stage) override;
  void on_train_start(Trainer& trainer, TrainingModule& module) override;
  void on_train_batch_end(Trainer& trainer, TrainingModule& module, const at::Tensor& loss,
                          std::int64_t batch_idx) override;
  void on_train_epoch_end(Trainer& trainer, TrainingModule& module) override;
  void on_validation_end(Trainer& trainer, TrainingModule& module) override;
  void on_train_end(Trainer& trainer, TrainingModule& module) override;
  void on_interrupt(Trainer& trainer, TrainingModule& module, int signal) override;
  void on_exception(Trainer& trainer, TrainingModule& module, const std::exception_ptr& error) override;
  void on_checkpoint_saved(Trainer& trainer, TrainingModule& module, const std::string& path,
                           const SaveTiming& timing) override;
  void on_checkpoint_save_failed(Trainer& trainer, TrainingModule& module, const std::string& path) override;
  void on_save_checkpoint(Trainer& trainer, TrainingModule& module, Checkpoint& checkpoint) override;

  // Lightning's names; paths as the accessors give them. In a checkpoint `dirpath` is relative to the checkpoint, and
  // other paths to dirpath. Both forms can be loaded, and Lightning's.
  Dict state_dict() const override;
  void load_state_dict(const Dict& state) override;
  // Lightning's: one configuration of monitor, mode and triggers differs from another.
  std::string state_key() const override;
  bool saves_checkpoints() const override { return true; }

 private:
  // What names can be made of. `epoch` and `step` are whole, also where they were logged.
  using Metrics = std::map<std::string, std::variant<std::int64_t, double>>;
  static Metrics metrics_of(const Trainer& trainer);
  // A ModelCheckpoint of the Trainer counts it among the best, or as `last`.
  static bool is_held(const Trainer& trainer, const std::string& path);

  void save_extra(Trainer& trainer, detail::SaveKind kind, const std::string& reason);
  bool must_not_save(const Trainer& trainer) const;
  bool saves_on_train_epoch_end(const Trainer& trainer) const;
  bool waits_for_validation(Trainer& trainer);
  bool is_time_due(const Trainer& trainer);
  void save_best_and_last(Trainer& trainer, bool at_step);
  void save(Trainer& trainer, std::vector<detail::SaveEntry> entries);
  std::optional<detail::SaveEntry> best_entry(Trainer& trainer, const Metrics& metrics);
  void add_last(const Trainer& trainer, const Metrics& metrics, std::vector<detail::SaveEntry>& entries) const;
  detail::SaveEntry last_entry(const Trainer& trainer, const Metrics& metrics) const;
  void report_missing_monitor(const Trainer& trainer, const Metrics& metrics);
  void report_best(const Trainer& trainer, const detail::SaveEntry& entry) const;

  std::string path_for(const Metrics& metrics, const std::string& name_template,
                       std::optional<std::int64_t> ver = std::nullopt, const std::string& prefix = {}) const;
  std::string free_path(const Trainer& trainer, const Metrics& metrics, const std::string& name_template,
                        const std::string& replaceable) const;
  std::string choose_dirpath(const Trainer& trainer) const;
  void remove_or_postpone(Trainer& trainer, const std::string& path);
  void tidy_after_resume(Trainer& trainer);

  ModelCheckpointOptions options_;
  std::int64_t every_n_train_steps_ = 0;
  std::int64_t every_n_epochs_ = 0;
  std::string dirpath_;
  std::unique_ptr<detail::CheckpointBook> book_;

  // Of one fit.
  std::chrono::steady_clock::time_point last_time_checked_{};
  bool is_training_ = false;
  bool has_saved_ = false;
  bool has_validated_ = false;
  bool has_warned_ = false;
  bool waits_ = false;                // a save is due, and made up for after the next validation
  bool is_within_epoch_ = false;      // batches of it are done, its end is not
  const Trainer* trainer_ = nullptr;  // from setup to teardown
  std::string resumed_from_{};        // the file itself, not a link
  std::string warning_{};             // of load_state_dict, until training begins
};

}  // namespace ckptio
