// SPDX-License-Identifier: Apache-2.0
// CheckpointBook: what ModelCheckpoint knows of the files it saved, while saves may still be going on.
//
// A save is entered when it begins, because what the book says then goes into the file; it is settled when it is over.
// Several may be open, and any of them may fail. So the book keeps the last settled page and the open saves in their
// order, and the current page is what the one becomes by the others: taking a failed save back is to leave it out.
// What a save makes superfluous is handed out for removal only when it has succeeded.
// Threads: none of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ckptio::detail {

struct TopKRule {
  std::int64_t k = 1;  // -1: all
  bool smaller_is_better = true;
};

// Paths are as the plugin gets them; an empty one is none.
struct BookPage {
  std::vector<std::pair<std::string, double>> best_k_models{};  // with their scores, in the order they were saved
  std::string best_model_path{};
  std::optional<double> best_model_score{};
  std::optional<double> current_score{};
  std::string kth_best_model_path{};
  std::optional<double> kth_value{};
  std::string last_model_path{};
  std::string newest_path{};                // of what was saved last, under whatever name
  std::int64_t last_global_step_saved = 0;  // no need to save when no steps were taken
  std::vector<std::string> superseded{};    // to be removed; of one run, and not removed yet

  bool holds(const std::string& path) const;  // among the best, or `last`
  bool operator==(const BookPage&) const = default;
};

enum class SaveKind {
  Best,   // counts among the top k
  Last,   // replaces `last`
  Other,  // is kept
};

// A save that begins.
struct SaveEntry {
  SaveKind kind = SaveKind::Other;
  std::string path{};
  std::int64_t global_step = 0;
  std::optional<double> score{};  // of Best; none: the newest is the best
  std::string link{};             // `last` is to be a link to it
};

class CheckpointBook {
 public:
  explicit CheckpointBook(TopKRule rule) : rule_(rule) {}

  // As it will be if all open saves succeed.
  const BookPage& page() const noexcept { return page_; }

  // Whether a checkpoint of this score would be among the top k. Not-a-number beats nothing; a tie keeps the older.
  bool accepts(double score) const;
  // Not-a-number becomes the worst there is.
  double rank_of(double score) const;
  // What a Best of a score would supersede; empty: nothing.
  std::string would_supersede(const std::optional<double>& score) const;

  void begin(SaveEntry entry);

  struct Settled {
    SaveEntry entry;
    std::vector<std::string> superseded;  // by it, and what was postponed
  };
  // The oldest open save of that path has succeeded; nullopt where there is none.
  std::optional<Settled> succeed(const std::string& path);
  // The oldest open save of that path has failed: all is as if it had never begun.
  void fail(const std::string& path);
  // The newest `n` open saves have never begun.
  void take_back(std::size_t n);
  bool is_open(const std::string& path) const noexcept;

  // What is not to be removed yet is handed out again, or stays on the page for a run that resumes this one.
  void postpone(const std::string& superseded);

  // Forgets open saves.
  void load(BookPage page);
  // The checkpoint is there no longer: it does not count among the best. Requires: no open saves.
  void drop(const std::string& path);

 private:
  BookPage apply(BookPage page, const SaveEntry& entry) const;
  void recount();
  // Positions in best_k_models; of equal ones the first.
  std::size_t best_of(const BookPage& page) const;
  std::size_t worst_of(const BookPage& page) const;
  bool is_better(double a, double b) const { return rule_.smaller_is_better ? a < b : a > b; }

  TopKRule rule_;
  BookPage settled_;
  std::vector<SaveEntry> open_;
  BookPage page_;
};

}  // namespace ckptio::detail
