// SPDX-License-Identifier: Apache-2.0
// How a checkpoint is saved, and what a kill leaves.
//
// 1. Names are chosen, and the book (checkpoint_book.h) says what will be: that goes into the files.
// 2. The checkpoint is saved, then `last`, if it is a file of its own.
//      Killed: the older files, and the new ones as far as they got; nothing refers to these yet.
// 3. Once a file is durable: a link `last` moves to it, then what it supersedes is removed, then loggers are told.
//      Killed: files too many. The new checkpoint lists them, and a run resumed from it removes them.
#include <algorithm>
#include <utility>

#include "ckptio/trainer/model_checkpoint.h"
#include "ckptio/trainer/trainer.h"
#include "trainer/checkpoints/checkpoint_book.h"
#include "trainer/checkpoints/checkpoint_folder.h"
#include "trainer/checkpoints/last_link.h"
#include "trainer/checkpoints/python_format.h"

namespace ckptio {
namespace {

using detail::in_quotes;
using detail::SaveEntry;
using Kind = detail::SaveKind;

std::string five_decimals(double number) { return detail::python_format(number, ".5f"); }

double as_double(const detail::Number& number) {
  return std::visit([](auto value) { return static_cast<double>(value); }, number);
}

}  // namespace

bool ModelCheckpoint::is_held(const Trainer& trainer, const std::string& path) {
  return std::ranges::any_of(trainer.callbacks(), [&](const auto& callback) {
    const auto* checkpoint = dynamic_cast<const ModelCheckpoint*>(callback.get());
    return checkpoint != nullptr && checkpoint->book_->page().holds(path);
  });
}

void ModelCheckpoint::save_best_and_last(Trainer& trainer, bool at_step) {
  const Metrics metrics = metrics_of(trainer);
  std::vector<SaveEntry> entries;
  waits_ = false;
  if (auto entry = best_entry(trainer, metrics)) entries.push_back(std::move(*entry));
  const bool is_last_due = at_step || !entries.empty() || options_.save_last_always || options_.save_top_k == 0;
  if (options_.save_last && is_last_due) add_last(trainer, metrics, entries);
  save(trainer, std::move(entries));
}

void ModelCheckpoint::save_extra(Trainer& trainer, Kind kind, const std::string& reason) {
  if (must_not_save(trainer)) return;
  const Metrics metrics = metrics_of(trainer);
  SaveEntry entry{.kind = kind, .global_step = trainer.global_step()};
  const std::string replaceable = kind == Kind::Best ? book_->would_supersede(std::nullopt) : "";
  entry.path = free_path(trainer, metrics, options_.filename.value_or(""), replaceable);
  const std::string message = reason + ", saved checkpoint to " + entry.path;
  std::vector<SaveEntry> entries{std::move(entry)};
  if (options_.save_last) add_last(trainer, metrics, entries);
  save(trainer, std::move(entries));
  trainer.print(message);
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

SaveEntry ModelCheckpoint::last_entry(const Trainer& trainer, const Metrics& metrics) const {
  return {.kind = Kind::Last,
          .path = free_path(trainer, metrics, CHECKPOINT_NAME_LAST, book_->page().last_model_path),
          .global_step = trainer.global_step()};
}

void ModelCheckpoint::add_last(const Trainer& trainer, const Metrics& metrics, std::vector<SaveEntry>& entries) const {
  SaveEntry last = last_entry(trainer, metrics);
  if (options_.save_last.is_link() && options_.save_top_k != 0) {
    if (!entries.empty()) entries.front().link = std::move(last.path);
    if (!entries.empty() || (!options_.save_last_always && !book_->page().newest_path.empty())) return;
  }
  entries.push_back(std::move(last));
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
    has_saved_ = true;
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
  for (const std::string& old : settled->superseded) remove_or_postpone(trainer, old);
  for (const auto& logger : trainer.loggers()) logger->after_save_checkpoint(path);
}

void ModelCheckpoint::on_checkpoint_save_failed(Trainer&, TrainingModule&, const std::string& path) {
  book_->fail(path);
}

void ModelCheckpoint::remove_or_postpone(Trainer& trainer, const std::string& path) {
  if (!detail::lies_in(path, dirpath_) || is_held(trainer, path)) return;
  if (!resumed_from_.empty() && detail::is_same_file(path, resumed_from_)) return book_->postpone(path);
  trainer.remove_checkpoint(path);
}

// After a kill there may be files too many, and after a user's hand too few.
void ModelCheckpoint::tidy_after_resume(Trainer& trainer) {
  detail::BookPage page = book_->page();
  const std::vector<std::string> superseded = std::exchange(page.superseded, {});
  book_->load(page);
  if (resumed_from_.empty()) return;
  for (const std::string& old : superseded) {
    // Of this machine: only what was there when the checkpoint was written, nothing that got the name later.
    const bool is_old =
        !detail::is_local(old) || (detail::is_there(old) && detail::time_of(old) <= detail::time_of(resumed_from_));
    if (is_old) remove_or_postpone(trainer, old);
  }
  // A plugin that keeps files elsewhere would have them all missing, the one just read included.
  if (!detail::is_there(resumed_from_)) return;
  for (const auto& [path, score] : page.best_k_models) {
    if (detail::is_local(path) && !detail::is_there(path)) book_->drop(path);
  }
}

}  // namespace ckptio
