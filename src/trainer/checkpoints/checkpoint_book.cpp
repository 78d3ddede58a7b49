// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/checkpoint_book.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace ckptio::detail {

bool BookPage::holds(const std::string& path) const {
  const auto is_it = [&](const auto& item) { return item.first == path; };
  return path == best_model_path || path == last_model_path || std::ranges::any_of(best_k_models, is_it);
}

bool CheckpointBook::accepts(double score) const {
  if (rule_.k == -1 || std::ssize(page_.best_k_models) < rule_.k) return true;
  return rule_.k > 0 && is_better(score, page_.best_k_models[worst_of(page_)].second);
}

double CheckpointBook::rank_of(double score) const {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (!std::isnan(score)) return score;
  return rule_.smaller_is_better ? kInfinity : -kInfinity;
}

std::string CheckpointBook::would_supersede(const std::optional<double>& score) const {
  if (!score) return rule_.k == 1 ? page_.best_model_path : "";
  if (rule_.k < 1 || std::ssize(page_.best_k_models) < rule_.k) return {};
  return page_.best_k_models[worst_of(page_)].first;
}

void CheckpointBook::begin(SaveEntry entry) {
  page_ = apply(std::move(page_), entry);
  open_.push_back(std::move(entry));
}

std::optional<CheckpointBook::Settled> CheckpointBook::succeed(const std::string& path) {
  const auto found = std::ranges::find(open_, path, &SaveEntry::path);
  if (found == open_.end()) return std::nullopt;
  Settled result{.entry = std::move(*found), .superseded = {}};
  open_.erase(found);
  settled_ = apply(std::move(settled_), result.entry);
  result.superseded = std::exchange(settled_.superseded, {});
  recount();
  return result;
}

void CheckpointBook::fail(const std::string& path) {
  const auto found = std::ranges::find(open_, path, &SaveEntry::path);
  if (found == open_.end()) return;
  open_.erase(found);
  recount();
}

void CheckpointBook::take_back(std::size_t n) {
  open_.resize(open_.size() - std::min(n, open_.size()));
  recount();
}

bool CheckpointBook::is_open(const std::string& path) const noexcept {
  return std::ranges::find(open_, path, &SaveEntry::path) != open_.end();
}

void CheckpointBook::postpone(const std::string& superseded) {
  settled_.superseded.push_back(superseded);
  recount();
}

void CheckpointBook::load(BookPage page) {
  open_.clear();
  settled_ = std::move(page);
  recount();
}

void CheckpointBook::drop(const std::string& path) {
  BookPage& page = settled_;
  if (std::erase_if(page.best_k_models, [&](const auto& model) { return model.first == path; }) == 0) return;
  const bool is_empty = page.best_k_models.empty();
  if (page.best_model_path == path) {
    page.best_model_path = is_empty ? "" : page.best_k_models[best_of(page)].first;
    page.best_model_score = is_empty ? std::nullopt : std::optional(page.best_k_models[best_of(page)].second);
  }
  if (page.kth_best_model_path == path) {
    page.kth_best_model_path = is_empty ? "" : page.best_k_models[worst_of(page)].first;
    page.kth_value = is_empty ? std::nullopt : std::optional(page.best_k_models[worst_of(page)].second);
  }
  recount();
}

void CheckpointBook::recount() {
  page_ = settled_;
  for (const SaveEntry& entry : open_) page_ = apply(std::move(page_), entry);
}

BookPage CheckpointBook::apply(BookPage page, const SaveEntry& entry) const {
  auto& models = page.best_k_models;
  const auto supersede = [&](const std::string& path) {
    if (!path.empty()) page.superseded.push_back(path);
  };
  // A link goes before what it may point to.
  const bool replaces_last = entry.kind == SaveKind::Last || !entry.link.empty();
  if (replaces_last) {
    const std::string& last = entry.link.empty() ? entry.path : entry.link;
    if (page.last_model_path != last) supersede(page.last_model_path);
    page.last_model_path = last;
  }
  if (entry.kind == SaveKind::Best && !entry.score) {
    if (rule_.k == 1) supersede(page.best_model_path);
    page.best_model_path = entry.path;
  } else if (entry.kind == SaveKind::Best) {
    while (rule_.k > 0 && std::ssize(models) >= rule_.k) {
      const auto worst = models.begin() + static_cast<std::ptrdiff_t>(worst_of(page));
      supersede(worst->first);
      models.erase(worst);
    }
    const auto same = std::ranges::find(models, entry.path, &std::pair<std::string, double>::first);
    if (same != models.end()) {
      same->second = *entry.score;
    } else {
      models.emplace_back(entry.path, *entry.score);
    }
    if (rule_.k == -1 || std::ssize(models) == rule_.k) {
      std::tie(page.kth_best_model_path, page.kth_value) = models[worst_of(page)];
    }
    std::tie(page.best_model_path, page.best_model_score) = models[best_of(page)];
    page.current_score = entry.score;
  }
  // What was saved over its own predecessor, or has become `last`.
  std::erase_if(page.superseded, [&](const std::string& path) { return page.holds(path); });
  page.newest_path = entry.path;
  page.last_global_step_saved = entry.global_step;
  return page;
}

std::size_t CheckpointBook::best_of(const BookPage& page) const {
  const auto& models = page.best_k_models;
  const auto less = [&](const auto& a, const auto& b) { return is_better(a.second, b.second); };
  return static_cast<std::size_t>(std::ranges::min_element(models, less) - models.begin());
}

std::size_t CheckpointBook::worst_of(const BookPage& page) const {
  const auto& models = page.best_k_models;
  const auto less = [&](const auto& a, const auto& b) { return is_better(b.second, a.second); };
  return static_cast<std::size_t>(std::ranges::min_element(models, less) - models.begin());
}

}  // namespace ckptio::detail
