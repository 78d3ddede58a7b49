// SPDX-License-Identifier: Apache-2.0
// How a checkpoint is saved, and what a kill leaves.
//
// 1. Names are chosen, and the book (checkpoint_book.h) says what will be: that goes into the files.
// 2. The checkpoint is saved, then `last`, if it is a file of its own.
//      Killed: the older files, and the new ones as far as they got; nothing refers to these yet.
// 3. Once a file is durable: a link `last` moves to it, then what it supersedes is removed, then loggers are told.
//      Killed: files too many. The new checkpoint lists them, and a run resumed from it removes them.
#include "ckptio/trainer/model_checkpoint.h"

#include <c10/util/Type.h>
#include <signal.h>

#include <algorithm>
#include <typeinfo>

#include "ckptio/storage/storage_backend.h"
#include "ckptio/trainer/trainer.h"
#include "trainer/checkpoints/checkpoint_book.h"
#include "trainer/checkpoints/checkpoint_folder.h"
#include "trainer/checkpoints/checkpoint_name.h"
#include "trainer/checkpoints/last_link.h"
#include "trainer/checkpoints/score_yaml.h"
#include "trainer/checkpoints/timedelta_text.h"
#include "trainer/model_checkpoint_state.h"

namespace ckptio {
namespace {

using detail::SaveEntry;
using Kind = SaveEntry::Kind;
using Metrics = detail::NamedNumbers;

std::string in_quotes(const std::string& text) { return "'" + text + "'"; }

std::string five_decimals(double number) { return detail::python_format(number, ".5f"); }

void check_at_least(const char* name, std::int64_t value, std::int64_t least) {
  if (value >= least) return;
  throw MisconfigurationError("Invalid value for " + std::string(name) + "=" + std::to_string(value) +
                              ". Must be >= " + std::to_string(least));
}

// What names can be made of. `epoch` and `step` are whole, also where they were logged.
Metrics metrics_of(const Trainer& trainer) {
  Metrics metrics(trainer.callback_metrics().begin(), trainer.callback_metrics().end());
  const auto make_whole = [&](const char* name, std::int64_t otherwise) {
    const auto found = metrics.find(name);
    const bool is_logged = found != metrics.end() && std::abs(std::get<double>(found->second)) < 1e18;
    metrics[name] = is_logged ? static_cast<std::int64_t>(std::get<double>(found->second)) : otherwise;
  };
  make_whole("epoch", trainer.current_epoch());
  make_whole("step", trainer.global_step());
  return metrics;
}

double as_double(const detail::Number& number) {
  return std::visit([](auto value) { return static_cast<double>(value); }, number);
}

detail::Number as_number(const Value& value) {
  if (const auto* integer = value.get_if<std::int64_t>()) return *integer;
  if (const auto* tensor = value.get_if<at::Tensor>()) {
    if (!tensor->is_floating_point()) return tensor->item<std::int64_t>();
    return tensor->item<double>();
  }
  return value.as<double>();
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

bool any_model_checkpoint(const Trainer& trainer, const std::function<bool(const ModelCheckpoint&)>& wanted) {
  return std::ranges::any_of(trainer.callbacks(), [&](const auto& callback) {
    const auto* checkpoint = dynamic_cast<const ModelCheckpoint*>(callback.get());
    return checkpoint != nullptr && wanted(*checkpoint);
  });
}

}  // namespace

SaveLast::SaveLast(const std::string& kind) : enabled_(true), link_(true) {
  if (kind != "link") throw ValueError("`save_last` can be true, false or \"link\" but got " + in_quotes(kind));
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

// ---------------------------------------------------------------------------------------------------------- names

std::string ModelCheckpoint::format_checkpoint_name(const Dict& metrics, const std::optional<std::string>& filename,
                                                    std::optional<std::int64_t> ver,
                                                    const std::optional<std::string>& prefix) const {
  Metrics numbers;
  for (const auto& [name, value] : metrics) numbers.emplace(name.as<std::string>(), as_number(value));
  std::string name_template = filename.value_or("");
  if (name_template.empty()) name_template = options_.filename.value_or("");
  return path_for(numbers, name_template, ver, prefix ? *prefix + CHECKPOINT_JOIN_CHAR : "");
}

std::string ModelCheckpoint::path_for(const Metrics& metrics, const std::string& name_template,
                                      std::optional<std::int64_t> ver, const std::string& prefix) const {
  std::string name = prefix + detail::format_name(name_template, metrics,
                                                  {.join_char = CHECKPOINT_JOIN_CHAR,
                                                   .equals_char = CHECKPOINT_EQUALS_CHAR,
                                                   .auto_insert_metric_name = options_.auto_insert_metric_name});
  if (ver) name += CHECKPOINT_JOIN_CHAR + "v" + std::to_string(*ver);
  name += FILE_EXTENSION;
  return dirpath_.empty() ? name : detail::path_in(dirpath_, name);
}

// `replaceable`: a path that may be taken again, though it is in use.
std::string ModelCheckpoint::free_path(const Trainer& trainer, const Metrics& metrics, const std::string& name_template,
                                       const std::string& replaceable) const {
  std::string path = path_for(metrics, name_template);
  if (!options_.enable_version_counter) return path;
  // A file of an asynchronous plugin may not be there yet.
  const auto is_taken = [&] {
    return detail::is_there(path) ||
           any_model_checkpoint(trainer, [&](const ModelCheckpoint& other) { return other.book_->page().holds(path); });
  };
  for (std::int64_t version = STARTING_VERSION; path != replaceable && is_taken(); ++version) {
    path = path_for(metrics, name_template, version);
  }
  return path;
}

std::string ModelCheckpoint::choose_dirpath(const Trainer& trainer) const {
  const std::string& root = trainer.options().default_root_dir;
  std::string folder;
  if (!trainer.loggers().empty()) {
    const Logger& logger = *trainer.loggers().front();
    folder = logger.save_dir();
    for (const std::string& part : {logger.name(), logger.version()}) {
      if (!part.empty()) folder = detail::path_in(folder.empty() ? root : folder, part);
    }
  }
  return detail::resolve_folder(detail::path_in(folder.empty() ? root : folder, "checkpoints"));
}

std::vector<std::string> ModelCheckpoint::find_last_checkpoints(const Trainer& trainer) const {
  const std::string folder = dirpath_.empty() ? choose_dirpath(trainer) : dirpath_;
  const detail::NameStyle style{.join_char = CHECKPOINT_JOIN_CHAR,
                                .equals_char = CHECKPOINT_EQUALS_CHAR,
                                .auto_insert_metric_name = options_.auto_insert_metric_name};
  std::vector<std::string> paths;
  for (const std::string& name : detail::names_in(folder)) {
    if (!name.ends_with(FILE_EXTENSION)) continue;
    const std::string stem = name.substr(0, name.size() - FILE_EXTENSION.size());
    if (detail::begins_like(stem, CHECKPOINT_NAME_LAST, style)) paths.push_back(detail::path_in(folder, name));
  }
  return paths;
}

void ModelCheckpoint::to_yaml(const std::optional<std::string>& filepath) const {
  const std::string yaml = detail::scores_as_yaml(book_->page().best_k_models);
  const auto file = default_storage()->create(filepath.value_or(detail::path_in(dirpath_, "best_k_models.yaml")));
  file->append(yaml.data(), yaml.size());
  file->commit();
}

// ---------------------------------------------------------------------------------------------------------- hooks

void ModelCheckpoint::setup(Trainer& trainer, TrainingModule&, const std::string& stage) {
  if (dirpath_.empty()) dirpath_ = choose_dirpath(trainer);
  if (options_.save_last.is_link() && !detail::is_local(dirpath_)) {
    throw ValueError(
        "`ModelCheckpoint(save_last='link')` is only supported for local file paths, got `dirpath=" + dirpath_ + "`.");
  }
  if (stage != "fit") return;
  if (options_.save_top_k != 0 && detail::is_folder_with_entries(dirpath_)) {
    trainer.print("Checkpoint directory " + dirpath_ + " exists and is not empty.");
  }
  is_training_ = has_validated_ = has_warned_ = waits_ = false;
  warning_.clear();
  detail::BookPage page = book_->page();
  page.newest_path.clear();
  page.last_global_step_saved = 0;
  book_->load(std::move(page));
}

void ModelCheckpoint::on_train_start(Trainer& trainer, TrainingModule&) {
  if (!warning_.empty()) trainer.print(warning_);
  warning_.clear();
  last_time_checked_ = trainer.now();
  is_training_ = true;
  tidy_after_resume(trainer);
}

bool ModelCheckpoint::must_not_save(const Trainer& trainer) const {
  return trainer.options().fast_dev_run != 0 || trainer.stage() != "fit" || !is_training_ ||
         trainer.sanity_checking() || book_->page().last_global_step_saved == trainer.global_step();
}

bool ModelCheckpoint::saves_on_train_epoch_end(const Trainer& trainer) const {
  return options_.save_on_train_epoch_end.value_or(!trainer.has_validation() || trainer.validates_at_epoch_end());
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
  if (must_not_save(trainer)) return;
  // The monitor is a mean over the training epoch.
  if (waits_ && trainer.callback_metrics().contains(*options_.monitor)) return save_best_and_last(trainer, true);
  if (!saves_on_train_epoch_end(trainer) || every_n_epochs_ == 0) return;
  if ((trainer.current_epoch() + 1) % every_n_epochs_ == 0) save_best_and_last(trainer, false);
}

void ModelCheckpoint::on_train_end(Trainer& trainer, TrainingModule&) {
  if (waits_ && !must_not_save(trainer)) save_best_and_last(trainer, true);
  is_training_ = false;
  if (!options_.save_last || trainer.options().fast_dev_run != 0) return;
  const detail::BookPage& page = book_->page();
  const bool is_behind = options_.save_last_always && page.last_global_step_saved != trainer.global_step();
  if (!page.newest_path.empty() && !is_behind) return;
  std::vector<SaveEntry> entries;
  add_last(trainer, metrics_of(trainer), entries);
  save(trainer, std::move(entries));
}

void ModelCheckpoint::on_interrupt(Trainer& trainer, TrainingModule&, int signal) {
  if (options_.save_top_k == 0 && !options_.save_last) return;
  save_extra(trainer, "Received signal " + std::to_string(signal) + " (" + ::strsignal(signal) + ")");
}

void ModelCheckpoint::on_exception(Trainer& trainer, TrainingModule&, const std::exception_ptr& error) {
  if (options_.save_on_exception) save_extra(trainer, describe(error));
}

// --------------------------------------------------------------------------------------------------------- saving

void ModelCheckpoint::save_best_and_last(Trainer& trainer, bool at_step) {
  const Metrics metrics = metrics_of(trainer);
  std::vector<SaveEntry> entries;
  waits_ = false;
  if (auto entry = best_entry(trainer, metrics)) entries.push_back(std::move(*entry));
  const bool is_last_due = at_step || !entries.empty() || options_.save_last_always || options_.save_top_k == 0;
  if (options_.save_last && is_last_due) add_last(trainer, metrics, entries);
  save(trainer, std::move(entries));
}

void ModelCheckpoint::save_extra(Trainer& trainer, const std::string& reason) {
  if (must_not_save(trainer)) return;
  const Metrics metrics = metrics_of(trainer);
  const std::string path = free_path(trainer, metrics, options_.filename.value_or(""), "");
  std::vector<SaveEntry> entries{{.kind = Kind::Other, .path = path, .global_step = trainer.global_step()}};
  if (options_.save_last) add_last(trainer, metrics, entries);
  save(trainer, std::move(entries));
  trainer.print(reason + ", saved checkpoint to " + path);
}

std::optional<SaveEntry> ModelCheckpoint::best_entry(Trainer& trainer, const Metrics& metrics) {
  if (options_.save_top_k == 0) return std::nullopt;
  SaveEntry entry{.kind = Kind::Best, .global_step = trainer.global_step()};
  if (options_.monitor) {
    const auto found = metrics.find(*options_.monitor);
    if (found == metrics.end()) report_missing_monitor(trainer, metrics);
    if (found == metrics.end() || !book_->accepts(as_double(found->second))) {
      if (options_.verbose) {
        trainer.print("Epoch " + std::to_string(trainer.current_epoch()) + ", global step " +
                      std::to_string(trainer.global_step()) + ": " + in_quotes(*options_.monitor) + " was not in top " +
                      std::to_string(options_.save_top_k));
      }
      return std::nullopt;
    }
    entry.score = book_->rank_of(as_double(found->second));
  }
  entry.path = free_path(trainer, metrics, options_.filename.value_or(""), book_->would_supersede(entry.score));
  return entry;
}

void ModelCheckpoint::add_last(const Trainer& trainer, const Metrics& metrics, std::vector<SaveEntry>& entries) const {
  const detail::BookPage& page = book_->page();
  std::string path = free_path(trainer, metrics, CHECKPOINT_NAME_LAST, page.last_model_path);
  if (options_.save_last.is_link() && options_.save_top_k != 0) {
    if (!entries.empty()) entries.front().link = std::move(path);
    if (!entries.empty() || (!options_.save_last_always && !page.newest_path.empty())) return;
  }
  entries.push_back({.kind = Kind::Last, .path = std::move(path), .global_step = trainer.global_step()});
}

void ModelCheckpoint::save(Trainer& trainer, std::vector<SaveEntry> entries) {
  for (const SaveEntry& entry : entries) book_->begin(entry);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (options_.verbose && entries[i].kind == Kind::Best) report_best(trainer, entries[i]);
    try {
      trainer.async_save_checkpoint(entries[i].path, options_.save_weights_only);
    } catch (...) {
      book_->take_back(entries.size() - i);
      throw;
    }
  }
}

void ModelCheckpoint::report_missing_monitor(const Trainer& trainer, const Metrics& metrics) {
  std::string names;
  for (const auto& [name, value] : metrics) names += (names.empty() ? "" : ", ") + in_quotes(name);
  const std::string message = "`ModelCheckpoint(monitor=" + in_quotes(*options_.monitor) +
                              ")` could not find the monitored key in the returned metrics: [" + names +
                              "]. HINT: Did you call `log(" + in_quotes(*options_.monitor) +
                              ", value)` in the `TrainingModule`?";
  if (has_validated_) throw MisconfigurationError(message);
  if (!has_warned_) trainer.print(message);
  has_warned_ = true;
}

void ModelCheckpoint::report_best(const Trainer& trainer, const SaveEntry& entry) const {
  std::string line = "Epoch " + std::to_string(trainer.current_epoch()) + ", global step " +
                     std::to_string(trainer.global_step()) + ": ";
  if (entry.score) {
    const detail::BookPage& page = book_->page();
    const auto k = options_.save_top_k == -1 ? std::ssize(page.best_k_models) : options_.save_top_k;
    line += in_quotes(*options_.monitor) + " reached " + five_decimals(*entry.score) + " (best " +
            five_decimals(*page.best_model_score) + "), saving model to " + in_quotes(entry.path) + " as top " +
            std::to_string(k);
  } else {
    line += "saving model to " + in_quotes(entry.path);
  }
  trainer.print(line);
}

void ModelCheckpoint::on_checkpoint_saved(Trainer& trainer, TrainingModule&, const std::string& path,
                                          const SaveTiming&) {
  const auto settled = book_->succeed(path);
  if (!settled) return;
  if (!settled->entry.link.empty()) detail::point_link(settled->entry.link, path);
  for (const std::string& old : settled->superseded) {
    if (may_remove(trainer, old)) trainer.remove_checkpoint(old);
  }
  for (const auto& logger : trainer.loggers()) logger->after_save_checkpoint(path);
}

void ModelCheckpoint::on_checkpoint_save_failed(Trainer&, TrainingModule&, const std::string& path) {
  book_->fail(path);
}

bool ModelCheckpoint::may_remove(const Trainer& trainer, const std::string& path) const {
  if (!detail::lies_in(path, dirpath_)) return false;
  if (trainer.ckpt_path() && detail::is_same_file(path, *trainer.ckpt_path())) return false;
  return !any_model_checkpoint(trainer, [&](const ModelCheckpoint& other) { return other.book_->page().holds(path); });
}

// After a kill there may be files too many, and after a user's hand too few.
void ModelCheckpoint::tidy_after_resume(Trainer& trainer) {
  detail::BookPage page = book_->page();
  const auto& resumed_from = trainer.ckpt_path();
  for (const std::string& old : std::exchange(page.superseded, {})) {
    // Of this machine: only what was there when the checkpoint was written, nothing that got the name later.
    const bool is_old = !detail::is_local(old) || (resumed_from && detail::time_of(old) &&
                                                   detail::time_of(old) <= detail::time_of(*resumed_from));
    if (is_old && may_remove(trainer, old)) trainer.remove_checkpoint(old);
  }
  book_->load(page);
  // A plugin that keeps files elsewhere would have them all missing, the one just read included.
  if (!resumed_from || !detail::is_there(*resumed_from)) return;
  for (const auto& [path, score] : page.best_k_models) {
    if (detail::is_local(path) && !detail::is_there(path)) book_->drop(path);
  }
}

// ---------------------------------------------------------------------------------------------------------- state

Dict ModelCheckpoint::state_dict() const {
  return detail::to_dict(
      {.monitor = options_.monitor.value_or(""), .dirpath = dirpath_, .page = book_->page(), .waits = waits_});
}

void ModelCheckpoint::on_save_checkpoint(Trainer& trainer, TrainingModule&, Checkpoint& checkpoint) {
  Value* callbacks = checkpoint.find("callbacks");
  if (trainer.saving_path().empty() || callbacks == nullptr) return;
  if (Value* state = callbacks->mutable_as<Dict>().find(state_key())) {
    *state = detail::to_dict_in_file(
        {.monitor = options_.monitor.value_or(""), .dirpath = dirpath_, .page = book_->page(), .waits = waits_},
        trainer.saving_path());
  }
}

void ModelCheckpoint::on_load_checkpoint(Trainer& trainer, TrainingModule&, const Checkpoint&) {
  loading_from_ = trainer.ckpt_path().value_or("");
}

void ModelCheckpoint::load_state_dict(const Dict& dict) {
  detail::ModelCheckpointState state = detail::from_dict(dict, std::exchange(loading_from_, {}), dirpath_);
  if (state.dirpath == dirpath_) {
    waits_ = state.waits;
    return book_->load(std::move(state.page));
  }
  warning_ = "The dirpath has changed from " + in_quotes(state.dirpath) + " to " + in_quotes(dirpath_) +
             ", therefore `best_model_score`, `kth_best_model_path`, `kth_value`, `last_model_path` and "
             "`best_k_models` won't be reloaded. Only `best_model_path` will be reloaded.";
  detail::BookPage page = book_->page();
  page.best_model_path = state.page.best_model_path;
  book_->load(std::move(page));
}

std::string ModelCheckpoint::state_key() const {
  std::string name = c10::demangle(typeid(*this).name());
  if (const auto colons = name.rfind("::"); colons != std::string::npos) name.erase(0, colons + 2);
  return name + "{'monitor': " + (options_.monitor ? in_quotes(*options_.monitor) : "None") +
         ", 'mode': " + in_quotes(options_.mode) + ", 'every_n_train_steps': " + std::to_string(every_n_train_steps_) +
         ", 'every_n_epochs': " + std::to_string(every_n_epochs_) +
         ", 'train_time_interval': " + detail::timedelta_repr(options_.train_time_interval) + "}";
}

}  // namespace ckptio
