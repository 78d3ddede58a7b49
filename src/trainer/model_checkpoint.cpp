// SPDX-License-Identifier: Apache-2.0
// What ModelCheckpoint is made with, when it saves, and its state.
#include "ckptio/trainer/model_checkpoint.h"

#include <c10/util/Type.h>
#include <string.h>

#include <typeinfo>
#include <utility>

#include "ckptio/trainer/trainer.h"
#include "trainer/checkpoints/checkpoint_book.h"
#include "trainer/checkpoints/checkpoint_folder.h"
#include "trainer/checkpoints/python_format.h"
#include "trainer/checkpoints/timedelta_text.h"
#include "trainer/model_checkpoint_state.h"

namespace ckptio {
namespace {

void check_at_least(const char* name, std::int64_t value, std::int64_t least) {
  if (value >= least) return;
  throw MisconfigurationError("Invalid value for " + std::string(name) + "=" + std::to_string(value) +
                              ". Must be >= " + std::to_string(least));
}

std::string describe(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    std::string name = c10::demangle(typeid(known).name());
    return "An " + name + " was raised with message: " + known.what();
  } catch (...) {
    return "An exception was raised";
  }
}

}  // namespace

SaveLast::SaveLast(const std::string& kind) : enabled_(true), link_(true) {
  if (kind != "link") throw ValueError("`save_last` can be true, false or \"link\" but got " + detail::in_quotes(kind));
}

ModelCheckpoint::ModelCheckpoint(ModelCheckpointOptions options) : options_(std::move(options)) {
  const bool has_trigger = options_.every_n_train_steps || options_.every_n_epochs || options_.train_time_interval;
  every_n_train_steps_ = options_.every_n_train_steps.value_or(0);
  every_n_epochs_ = options_.every_n_epochs.value_or(has_trigger ? 0 : 1);
  if (options_.mode != "min" && options_.mode != "max") {
    throw MisconfigurationError("`mode` can be min, max but got " + options_.mode);
  }
  check_at_least("save_top_k", options_.save_top_k, -1);
  check_at_least("every_n_train_steps", every_n_train_steps_, 0);
  check_at_least("every_n_epochs", every_n_epochs_, 0);
  if ((every_n_train_steps_ > 0) + (every_n_epochs_ > 0) + options_.train_time_interval.has_value() > 1) {
    throw MisconfigurationError(
        "Combination of parameters every_n_train_steps=" + std::to_string(every_n_train_steps_) +
        ", every_n_epochs=" + std::to_string(every_n_epochs_) + " and train_time_interval=" +
        detail::timedelta_str(options_.train_time_interval) + " should be mutually exclusive.");
  }
  if (!options_.monitor && options_.save_top_k > 1) {
    throw MisconfigurationError("ModelCheckpoint(save_top_k=" + std::to_string(options_.save_top_k) +
                                ", monitor=None) is not a valid configuration. No quantity for top_k to track.");
  }
  if (options_.dirpath) dirpath_ = detail::resolve_folder(*options_.dirpath);
  book_ = std::make_unique<detail::CheckpointBook>(
      detail::TopKRule{.k = options_.save_top_k, .smaller_is_better = options_.mode == "min"});
}

ModelCheckpoint::~ModelCheckpoint() = default;

const std::string& ModelCheckpoint::best_model_path() const noexcept { return book_->page().best_model_path; }
std::optional<double> ModelCheckpoint::best_model_score() const noexcept { return book_->page().best_model_score; }
const std::string& ModelCheckpoint::kth_best_model_path() const noexcept { return book_->page().kth_best_model_path; }
std::optional<double> ModelCheckpoint::kth_value() const noexcept { return book_->page().kth_value; }
const std::string& ModelCheckpoint::last_model_path() const noexcept { return book_->page().last_model_path; }
std::optional<double> ModelCheckpoint::current_score() const noexcept { return book_->page().current_score; }

std::map<std::string, double> ModelCheckpoint::best_k_models() const {
  const auto& models = book_->page().best_k_models;
  return {models.begin(), models.end()};
}

void ModelCheckpoint::setup(Trainer& trainer, TrainingModule&, const std::string& stage) {
  trainer_ = &trainer;
  if (dirpath_.empty()) dirpath_ = choose_dirpath(trainer);
  if (options_.save_last.is_link() && !detail::is_local(dirpath_)) {
    throw ValueError(
        "`ModelCheckpoint(save_last='link')` is only supported for local file paths, got `dirpath=" + dirpath_ + "`.");
  }
  if (stage != "fit") return;
  if (options_.save_top_k != 0 && detail::is_folder_with_entries(dirpath_)) {
    trainer.print("Checkpoint directory " + dirpath_ + " exists and is not empty.");
  }
  is_training_ = has_saved_ = has_validated_ = has_warned_ = waits_ = is_within_epoch_ = false;
  warning_.clear();
  detail::BookPage page = book_->page();
  page.newest_path.clear();
  page.last_global_step_saved = 0;
  book_->load(std::move(page));
}

void ModelCheckpoint::teardown(Trainer&, TrainingModule&, const std::string&) {
  is_training_ = false;
  trainer_ = nullptr;
}

void ModelCheckpoint::on_train_start(Trainer& trainer, TrainingModule&) {
  if (!warning_.empty()) trainer.print(warning_);
  warning_.clear();
  last_time_checked_ = trainer.now();
  is_training_ = true;
  // Where a link leads now: it will lead elsewhere.
  resumed_from_ = trainer.ckpt_path() ? detail::resolve_folder(*trainer.ckpt_path()) : "";
  tidy_after_resume(trainer);
}

bool ModelCheckpoint::must_not_save(const Trainer& trainer) const {
  return trainer.options().fast_dev_run != 0 || trainer.stage() != "fit" || !is_training_ ||
         trainer.sanity_checking() || book_->page().last_global_step_saved == trainer.global_step();
}

bool ModelCheckpoint::saves_on_train_epoch_end(const Trainer& trainer) const {
  if (options_.save_on_train_epoch_end) return *options_.save_on_train_epoch_end;
  const bool validates_each = trainer.options().check_val_every_n_epoch == 1 && trainer.validates_at_epoch_end();
  return !trainer.has_validation() || validates_each;
}

bool ModelCheckpoint::is_time_due(const Trainer& trainer) {
  if (!options_.train_time_interval || trainer.now() - last_time_checked_ < *options_.train_time_interval) return false;
  last_time_checked_ = trainer.now();
  return true;
}

// Whether the monitor has no value, or a validation that is about to run gives it a new one.
bool ModelCheckpoint::waits_for_validation(Trainer& trainer) {
  if (!options_.monitor || *options_.monitor == "epoch" || *options_.monitor == "step") return false;
  if (!trainer.callback_metrics().contains(*options_.monitor)) {
    if (!trainer.has_validation()) report_missing_monitor(trainer, metrics_of(trainer));
    return true;
  }
  return trainer.validates_after_batch();
}

void ModelCheckpoint::on_train_batch_end(Trainer& trainer, TrainingModule&, const at::Tensor&, std::int64_t) {
  is_within_epoch_ = true;
  const bool is_step_due = every_n_train_steps_ > 0 && trainer.global_step() % every_n_train_steps_ == 0;
  const bool is_due = is_time_due(trainer) || is_step_due;
  if (!is_due || must_not_save(trainer)) return;
  if (waits_for_validation(trainer)) {
    waits_ = true;
  } else {
    save_best_and_last(trainer, true);
  }
}

void ModelCheckpoint::on_validation_end(Trainer& trainer, TrainingModule&) {
  if (trainer.stage() != "fit" || trainer.sanity_checking()) return;
  has_validated_ = true;
  if (must_not_save(trainer)) return;
  if (waits_) return save_best_and_last(trainer, true);
  if (saves_on_train_epoch_end(trainer) || every_n_epochs_ == 0) return;
  if ((trainer.current_epoch() + 1) % every_n_epochs_ == 0) save_best_and_last(trainer, false);
}

void ModelCheckpoint::on_train_epoch_end(Trainer& trainer, TrainingModule&) {
  is_within_epoch_ = false;
  if (must_not_save(trainer)) return;
  // The monitor is a mean over the training epoch.
  if (waits_ && trainer.callback_metrics().contains(*options_.monitor)) return save_best_and_last(trainer, true);
  if (!saves_on_train_epoch_end(trainer) || every_n_epochs_ == 0) return;
  if ((trainer.current_epoch() + 1) % every_n_epochs_ == 0) save_best_and_last(trainer, false);
}

void ModelCheckpoint::on_train_end(Trainer& trainer, TrainingModule&) {
  if (waits_ && !must_not_save(trainer)) save_best_and_last(trainer, true);
  // max_steps, max_time or stop() cut the epoch short: its on_train_epoch_end will come after a resume. A monitor's
  // value is of other weights.
  const bool is_epoch_due = saves_on_train_epoch_end(trainer) && !options_.monitor && every_n_epochs_ != 0 &&
                            (trainer.current_epoch() + 1) % every_n_epochs_ == 0;
  if (is_within_epoch_ && is_epoch_due && !trainer.interrupted() && !must_not_save(trainer)) {
    save_best_and_last(trainer, false);
  }
  if (!options_.save_last || trainer.options().fast_dev_run != 0 || trainer.global_step() == 0) return;
  const detail::BookPage& page = book_->page();
  // What there is may be the resumed run's. Where no epoch is one of the best, `last` is to have the final weights.
  const bool is_wanted = options_.save_last_always || !has_saved_ || (options_.save_top_k == 0 && every_n_epochs_ > 0);
  const bool is_behind = is_wanted && page.last_global_step_saved != trainer.global_step();
  if (page.newest_path.empty() || is_behind) save(trainer, {last_entry(trainer, metrics_of(trainer))});
}

void ModelCheckpoint::on_interrupt(Trainer& trainer, TrainingModule&, int signal) {
  if (options_.save_top_k == 0 && !options_.save_last) return;
  // Where the newest is the best, it takes part, so that a run that is stopped often does not leave as many files.
  const bool counts = !options_.monitor && options_.save_top_k != 0;
  save_extra(trainer, counts ? detail::SaveKind::Best : detail::SaveKind::Other,
             "Received signal " + std::to_string(signal) + " (" + ::strsignal(signal) + ")");
}

void ModelCheckpoint::on_exception(Trainer& trainer, TrainingModule&, const std::exception_ptr& error) {
  if (options_.save_on_exception) save_extra(trainer, detail::SaveKind::Other, describe(error));
}

Dict ModelCheckpoint::state_dict() const {
  return detail::to_dict(
      {.monitor = options_.monitor.value_or(""), .dirpath = dirpath_, .page = book_->page(), .waits = waits_});
}

void ModelCheckpoint::on_save_checkpoint(Trainer& trainer, TrainingModule&, Checkpoint& checkpoint) {
  Value* callbacks = checkpoint.find("callbacks");
  if (trainer.saving_path().empty() || callbacks == nullptr) return;
  if (Value* state = callbacks->mutable_as<Dict>().find(state_key())) {
    detail::ModelCheckpointState own{
        .monitor = options_.monitor.value_or(""), .dirpath = dirpath_, .page = book_->page(), .waits = waits_};
    // What is left to do goes with the run's own checkpoints.
    if (!book_->is_open(trainer.saving_path())) own.page.superseded.clear();
    *state = detail::to_dict_in_file(std::move(own), trainer.saving_path());
  }
}

void ModelCheckpoint::load_state_dict(const Dict& dict) {
  // A test of an older checkpoint does not make what was saved since unknown.
  const bool knows_some = !best_model_path().empty() || !last_model_path().empty();
  if (trainer_ != nullptr && trainer_->stage() != "fit" && knows_some) return;
  const std::string path = trainer_ != nullptr ? trainer_->ckpt_path().value_or("") : "";
  detail::ModelCheckpointState state = detail::from_dict(dict, path, dirpath_);
  if (state.dirpath == dirpath_) {
    waits_ = state.waits;
    return book_->load(std::move(state.page));
  }
  warning_ = "The dirpath has changed from " + detail::in_quotes(state.dirpath) + " to " + detail::in_quotes(dirpath_) +
             ", therefore `best_model_score`, `kth_best_model_path`, `kth_value`, `last_model_path` and "
             "`best_k_models` won't be reloaded. Only `best_model_path` will be reloaded.";
  detail::BookPage page = book_->page();
  page.best_model_path = state.page.best_model_path;
  book_->load(std::move(page));
}

}  // namespace ckptio
