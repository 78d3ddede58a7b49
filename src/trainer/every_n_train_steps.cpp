// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/every_n_train_steps.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iomanip>
#include <sstream>

#include "ckptio/trainer/trainer.h"

namespace ckptio {
namespace {

constexpr const char* kExtension = ".ckpt";

std::string replace_all(std::string text, const std::string& what, const std::string& with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
  return text;
}

std::string join(const std::string& dirpath, const std::string& name) {
  return (std::filesystem::path(dirpath) / name).string();
}

std::string one_decimal(double number) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << number;
  return text.str();
}

// So that step=10 comes after step=9.
bool natural_less(const std::string& a, const std::string& b) {
  const auto padded = [](const std::string& text) {
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
      std::size_t end = i;
      while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
      if (end > i) {
        result.append(end - i < 20 ? 20 - (end - i) : 0, '0').append(text, i, end - i);
      } else {
        result += text[end++];
      }
      i = end;
    }
    return result;
  };
  return padded(a) < padded(b);
}

}  // namespace

EveryNTrainSteps::EveryNTrainSteps(EveryNTrainStepsOptions options) : options_(std::move(options)) {
  if (options_.every_n_train_steps < 1) {
    throw MisconfigurationError(
        "Invalid value for every_n_train_steps=" + std::to_string(options_.every_n_train_steps) + ". Must be >= 1");
  }
  if (options_.save_last_k < -1 || options_.save_last_k == 0) {
    throw MisconfigurationError("Invalid value for save_last_k=" + std::to_string(options_.save_last_k) +
                                ". Must be >= 1, or -1 to keep all");
  }
}

std::optional<std::string> EveryNTrainSteps::last_checkpoint(const std::string& dirpath) {
  namespace fs = std::filesystem;
  std::optional<std::pair<fs::file_time_type, std::string>> newest;
  std::error_code no_folder;
  for (const auto& entry : fs::directory_iterator(dirpath, no_folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() != kExtension || name.starts_with('.')) continue;
    std::error_code gone;
    const auto written = entry.last_write_time(gone);
    if (gone) continue;
    // Times are as coarse as the clock's tick, so quick saves share one; then the greater number is the newer.
    const bool newer = !newest || written > newest->first ||
                       (written == newest->first && natural_less(newest->second, entry.path().string()));
    if (newer) newest.emplace(written, entry.path().string());
  }
  return newest ? std::optional(newest->second) : std::nullopt;
}

std::vector<std::string> EveryNTrainSteps::saved_paths() const {
  std::vector<std::string> paths;
  for (const std::string& name : names_) paths.push_back(join(options_.dirpath, name));
  return paths;
}

void EveryNTrainSteps::setup(Trainer& trainer, TrainingModule&, const std::string& stage) {
  if (stage != "fit") return;
  if (options_.dirpath.empty()) options_.dirpath = join(trainer.options().default_root_dir, "checkpoints");
  names_.clear();
}

void EveryNTrainSteps::on_train_start(Trainer& trainer, TrainingModule&) { remove_surplus(trainer); }

void EveryNTrainSteps::on_train_batch_end(Trainer& trainer, TrainingModule&, const at::Tensor&, std::int64_t) {
  if (trainer.global_step() % options_.every_n_train_steps == 0) save(trainer);
}

// 1. The new name goes into the list, since the list is in the file. 2. The file is saved. 3. Old ones are removed.
// Killed before 2 is done: the older files are all there, and their lists know nothing of the new one. Killed in 3:
// one file too many, which the resumed run removes when it starts, as its list still has it.
void EveryNTrainSteps::save(Trainer& trainer) {
  const std::vector<std::string> names_before = names_;
  const std::string name = name_for(trainer);
  std::erase(names_, name);
  names_.push_back(name);
  const std::string path = join(options_.dirpath, name);
  const auto begin = std::chrono::steady_clock::now();
  try {
    trainer.save_checkpoint(path);
  } catch (...) {
    names_ = names_before;
    throw;
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  if (options_.verbose) trainer.print("saved " + path + " in " + one_decimal(took.count()) + " ms");
  remove_surplus(trainer);
}

void EveryNTrainSteps::remove_surplus(Trainer& trainer) {
  while (options_.save_last_k != -1 && std::ssize(names_) > options_.save_last_k) {
    trainer.checkpoint_io().remove_checkpoint(join(options_.dirpath, names_.front()));
    names_.erase(names_.begin());
  }
}

std::string EveryNTrainSteps::name_for(const Trainer& trainer) const {
  std::string name = replace_all(options_.filename, "{epoch}", std::to_string(trainer.current_epoch()));
  return replace_all(std::move(name), "{step}", std::to_string(trainer.global_step())) + kExtension;
}

Dict EveryNTrainSteps::state_dict() const { return Dict{{"saved", List(names_.begin(), names_.end())}}; }

void EveryNTrainSteps::load_state_dict(const Dict& state) { names_ = state.at("saved").as<std::vector<std::string>>(); }

}  // namespace ckptio
