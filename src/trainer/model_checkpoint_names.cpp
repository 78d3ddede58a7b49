// SPDX-License-Identifier: Apache-2.0
// Where ModelCheckpoint's files lie and what they are called.
#include <algorithm>
#include <cmath>
#include <typeinfo>

#include <c10/util/Type.h>

#include "ckptio/storage/storage_backend.h"
#include "ckptio/trainer/model_checkpoint.h"
#include "ckptio/trainer/trainer.h"
#include "trainer/checkpoints/checkpoint_book.h"
#include "trainer/checkpoints/checkpoint_folder.h"
#include "trainer/checkpoints/checkpoint_name.h"
#include "trainer/checkpoints/score_yaml.h"
#include "trainer/checkpoints/timedelta_text.h"

namespace ckptio {
namespace {

detail::Number as_number(const Value& value) {
  if (const auto* integer = value.get_if<std::int64_t>()) return *integer;
  if (const auto* tensor = value.get_if<at::Tensor>()) {
    if (!tensor->is_floating_point()) return tensor->item<std::int64_t>();
    return tensor->item<double>();
  }
  return value.as<double>();
}

}  // namespace

ModelCheckpoint::Metrics ModelCheckpoint::metrics_of(const Trainer& trainer) {
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
  const auto is_taken = [&] { return detail::is_there(path) || is_held(trainer, path); };
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

std::string ModelCheckpoint::state_key() const {
  std::string name = c10::demangle(typeid(*this).name());
  if (const auto colons = name.rfind("::"); colons != std::string::npos) name.erase(0, colons + 2);
  return name + "{'monitor': " + (options_.monitor ? detail::in_quotes(*options_.monitor) : "None") +
         ", 'mode': " + detail::in_quotes(options_.mode) +
         ", 'every_n_train_steps': " + std::to_string(every_n_train_steps_) +
         ", 'every_n_epochs': " + std::to_string(every_n_epochs_) +
         ", 'train_time_interval': " + detail::timedelta_repr(options_.train_time_interval) + "}";
}

}  // namespace ckptio
