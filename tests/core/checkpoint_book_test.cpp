// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/checkpoint_book.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "support/catch.h"
#include "support/random_seed.h"
#include "trainer/checkpoints/score_yaml.h"

namespace ckptio::test {
namespace {

using detail::BookPage;
using detail::CheckpointBook;
using detail::SaveEntry;
using detail::TopKRule;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
using Kind = detail::SaveKind;

// What ModelCheckpoint does with a monitor, each save done at once. Returns the files there are in the end.
std::set<std::string> files_after(CheckpointBook& book, const std::vector<double>& scores) {
  std::set<std::string> files;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!book.accepts(scores[i])) continue;
    const std::string path = std::to_string(i);
    book.begin({.kind = Kind::Best, .path = path, .global_step = 1, .score = book.rank_of(scores[i])});
    files.insert(path);
    const auto settled = book.succeed(path);
    for (const std::string& old : settled->superseded) files.erase(old);
  }
  return files;
}

SaveEntry best(const std::string& path, double score) {
  return {.kind = Kind::Best, .path = path, .global_step = 1, .score = score};
}

TEST_CASE("The best k checkpoints stay", "[checkpoint_book]") {
  const std::vector<double> losses{10, 9, 2.8, 5, 2.5};
  const std::vector<std::pair<std::int64_t, std::set<std::string>>> rows{
      {-1, {"0", "1", "2", "3", "4"}}, {1, {"4"}}, {2, {"2", "4"}}, {3, {"2", "3", "4"}},
      {4, {"1", "2", "3", "4"}},       {0, {}}};
  for (const auto& [k, files] : rows) {
    INFO("k = " << k);
    CheckpointBook book({.k = k});
    CHECK(files_after(book, losses) == files);
    CHECK(book.page().best_k_models.size() == files.size());
    CHECK(book.page().best_model_path == (k == 0 ? "" : "4"));
  }
  CheckpointBook largest({.k = 2, .smaller_is_better = false});
  CHECK(files_after(largest, losses) == std::set<std::string>{"0", "1"});
  CHECK(largest.page().kth_best_model_path == "1");
  CHECK(largest.page().kth_value == 9);
  CHECK(largest.page().best_model_score == 10);
}

TEST_CASE("Of equal scores the older stays", "[checkpoint_book]") {
  CheckpointBook one({.k = 1});
  CHECK(files_after(one, {1, 1, 1}) == std::set<std::string>{"0"});
  CheckpointBook two({.k = 2});
  CHECK(files_after(two, {3, 1, 2, 1}) == std::set<std::string>{"1", "3"});
  CHECK(two.page().best_model_path == "1");
  CHECK(two.page().kth_best_model_path == "1");
}

TEST_CASE("Not-a-number is the worst score there is", "[checkpoint_book]") {
  const double nan = std::nan("");
  CheckpointBook largest({.k = 1, .smaller_is_better = false});
  CHECK(files_after(largest, {nan, 5, 7, 8}) == std::set<std::string>{"3"});
  CHECK(largest.page().best_model_score == 8);
  CheckpointBook smallest({.k = 1});
  CHECK(files_after(smallest, {nan, 8, 7, 5, nan}) == std::set<std::string>{"3"});
  for (const bool smaller_is_better : {true, false}) {
    CheckpointBook book({.k = 1, .smaller_is_better = smaller_is_better});
    CHECK(files_after(book, {nan, nan}) == std::set<std::string>{"0"});
    CHECK(book.page().best_model_score == (smaller_is_better ? kInfinity : -kInfinity));
    CHECK(book.page().current_score == (smaller_is_better ? kInfinity : -kInfinity));
  }
}

TEST_CASE("Without a score the newest checkpoint is the best, and with k = 1 the only one", "[checkpoint_book]") {
  CheckpointBook book({.k = 1});
  book.begin({.kind = Kind::Best, .path = "a", .global_step = 1});
  CHECK(book.succeed("a")->superseded.empty());
  CHECK(book.would_supersede(std::nullopt) == "a");
  book.begin({.kind = Kind::Best, .path = "b", .global_step = 2});
  CHECK(book.succeed("b")->superseded == std::vector<std::string>{"a"});
  CHECK(book.page().best_model_path == "b");
  CHECK_FALSE(book.page().best_model_score);
  CHECK(book.page().best_k_models.empty());
}

TEST_CASE("A save over the file that it supersedes removes nothing", "[checkpoint_book]") {
  CheckpointBook book({.k = 1});
  book.begin(best("same", 2));
  book.succeed("same");
  CHECK(book.would_supersede(1) == "same");
  book.begin(best("same", 1));
  CHECK(book.succeed("same")->superseded.empty());
  CHECK(book.page().best_k_models == std::vector<std::pair<std::string, double>>{{"same", 1}});
}

TEST_CASE("What a save supersedes is handed out when it has succeeded, and not before", "[checkpoint_book]") {
  CheckpointBook book({.k = 1});
  book.begin(best("a", 3));
  CHECK(book.succeed("a")->superseded.empty());
  book.begin(best("b", 2));
  book.begin({.kind = Kind::Last, .path = "last", .global_step = 1});
  CHECK(book.page().best_model_path == "b");  // as the file is to have it
  CHECK(book.page().superseded == std::vector<std::string>{"a"});
  CHECK(book.succeed("b")->superseded == std::vector<std::string>{"a"});
  CHECK(book.page().superseded.empty());
  CHECK(book.succeed("last")->superseded.empty());
  CHECK_FALSE(book.succeed("last").has_value());
  CHECK_FALSE(book.succeed("stranger").has_value());
}

TEST_CASE("After a failed save the book is as if it had never begun", "[checkpoint_book]") {
  CheckpointBook book({.k = 2});
  book.begin(best("a", 3));
  book.succeed("a");
  book.begin(best("b", 2));
  book.succeed("b");
  const BookPage before = book.page();

  book.begin(best("c", 1));
  book.begin({.kind = Kind::Last, .path = "last", .global_step = 5});
  CHECK(book.page() != before);
  SECTION("reported later") {
    book.fail("c");
    book.fail("last");
  }
  SECTION("thrown at once") { book.take_back(2); }
  CHECK(book.page() == before);
}

TEST_CASE("A save that fails while later ones are going on is left out of what they supersede", "[checkpoint_book]") {
  CheckpointBook book({.k = 1});
  book.begin(best("a", 3));
  book.succeed("a");
  book.begin(best("b", 2));
  book.begin(best("c", 1));
  book.fail("b");
  CHECK(book.page().best_model_path == "c");
  CHECK(book.succeed("c")->superseded == std::vector<std::string>{"a"});
}

TEST_CASE("Whatever saves succeed or fail, and when, the files are those of the successes alone", "[checkpoint_book]") {
  std::mt19937_64 random(random_seed());
  for (int round = 0; round < 300; ++round) {
    const TopKRule rule{.k = static_cast<std::int64_t>(random() % 4) + 1, .smaller_is_better = random() % 2 == 0};
    CheckpointBook book(rule);
    std::set<std::string> files;
    std::vector<std::string> open;
    const auto settle_oldest = [&] {
      const std::string path = open.front();
      open.erase(open.begin());
      if (random() % 3 == 0) return book.fail(path);
      files.insert(path);
      const auto settled = book.succeed(path);
      for (const std::string& old : settled->superseded) {
        INFO("removed " << old);
        CHECK(files.erase(old) == 1);
      }
    };
    for (int i = 0; i < 12; ++i) {
      const double score = book.rank_of(static_cast<double>(random() % 8));
      if (book.accepts(score)) {
        open.push_back(std::to_string(i));
        book.begin(best(open.back(), score));
      }
      while (!open.empty() && random() % 2 == 0) settle_oldest();
    }
    while (!open.empty()) settle_oldest();
    std::set<std::string> tracked;
    for (const auto& [path, score] : book.page().best_k_models) tracked.insert(path);
    CHECK(tracked == files);
    CHECK(std::ssize(files) <= rule.k);
  }
}

TEST_CASE("`last` supersedes only a `last` of another name", "[checkpoint_book]") {
  CheckpointBook book({.k = 1});
  book.begin({.kind = Kind::Last, .path = "last-epoch=0", .global_step = 1});
  book.succeed("last-epoch=0");
  book.begin({.kind = Kind::Last, .path = "last-epoch=1", .global_step = 2});
  CHECK(book.succeed("last-epoch=1")->superseded == std::vector<std::string>{"last-epoch=0"});
  book.begin({.kind = Kind::Last, .path = "last-epoch=1", .global_step = 3});
  CHECK(book.succeed("last-epoch=1")->superseded.empty());
}

TEST_CASE("A link `last` moves with the save that it points to, and goes before what that supersedes",
          "[checkpoint_book]") {
  CheckpointBook book({.k = 1});
  book.begin({.kind = Kind::Best, .path = "a", .global_step = 1, .score = 2, .link = "last-epoch=0"});
  CHECK(book.page().last_model_path == "last-epoch=0");
  book.succeed("a");
  book.begin({.kind = Kind::Best, .path = "b", .global_step = 2, .score = 1, .link = "last-epoch=1"});
  CHECK(book.succeed("b")->superseded == std::vector<std::string>{"last-epoch=0", "a"});
}

TEST_CASE("A smaller k than the book was written with removes the surplus", "[checkpoint_book]") {
  CheckpointBook book({.k = 1});
  book.load({.best_k_models = {{"a", 3}, {"b", 2}, {"c", 4}}, .best_model_path = "b"});
  CHECK_FALSE(book.accepts(5));
  book.begin(best("d", 1));
  CHECK(book.succeed("d")->superseded == std::vector<std::string>{"c", "a", "b"});
}

TEST_CASE("A checkpoint that is gone counts no longer", "[checkpoint_book]") {
  CheckpointBook book({.k = 2});
  for (const auto& [path, score] : std::vector<std::pair<std::string, double>>{{"a", 1}, {"b", 2}}) {
    book.begin(best(path, score));
    book.succeed(path);
  }
  book.drop("stranger");
  book.drop("a");
  CHECK(book.page().best_model_path == "b");
  CHECK(book.page().best_model_score == 2);
  CHECK(book.accepts(3));
  book.drop("b");
  CHECK(book.page().best_model_path == "");
  CHECK(book.page().kth_best_model_path == "");
  CHECK_FALSE(book.page().best_model_score.has_value());
}

TEST_CASE("What cannot be removed yet is handed out again", "[checkpoint_book]") {
  CheckpointBook book({.k = 1});
  for (const std::string path : {"a", "b"}) {
    book.begin(best(path, path == "a" ? 3 : 2));
    CHECK(book.is_open(path));
    book.succeed(path);
    CHECK_FALSE(book.is_open(path));
  }
  book.postpone("a");
  CHECK(book.page().superseded == std::vector<std::string>{"a"});
  book.begin(best("c", 1));
  CHECK(book.succeed("c")->superseded == std::vector<std::string>{"a", "b"});
}

TEST_CASE("Scores are written as YAML", "[checkpoint_book]") {
  CHECK(detail::scores_as_yaml({}) == "{}\n");
  CHECK(detail::scores_as_yaml({{"/b: #1.ckpt", 1e-5}, {"/a\"\n.ckpt", kInfinity}, {"/c", 2}}) ==
        "\"/a\\\"\\x0A.ckpt\": .inf\n\"/b: #1.ckpt\": 1.0e-05\n\"/c\": 2.0\n");
}

}  // namespace
}  // namespace ckptio::test
