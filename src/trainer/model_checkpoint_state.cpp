// SPDX-License-Identifier: Apache-2.0
#include "trainer/model_checkpoint_state.h"

#include <filesystem>
#include <utility>

#include "trainer/checkpoints/checkpoint_folder.h"

namespace ckptio::detail {
namespace {

Value number_or_null(const std::optional<double>& number) { return number ? Value(*number) : Value(); }

template <class Change>
void change_paths(BookPage& page, Change&& change) {
  const auto apply = [&](std::string& path) {
    if (!path.empty()) path = change(path);
  };
  for (auto& [path, score] : page.best_k_models) apply(path);
  for (std::string& path : page.superseded) apply(path);
  for (std::string* path :
       {&page.best_model_path, &page.kth_best_model_path, &page.last_model_path, &page.newest_path}) {
    apply(*path);
  }
}

std::string string_or_empty(const Dict& dict, const char* key) {
  const Value* value = dict.find(key);
  return value == nullptr || value->is_null() ? "" : value->as<std::string>();
}

std::optional<double> number_at(const Dict& dict, const char* key) {
  const Value* value = dict.find(key);
  return value == nullptr ? std::nullopt : optional_number(*value);
}

// What is only ours.
void read_own_part(const Dict& dict, ModelCheckpointState& state) {
  const Value* own = dict.find("ckptio");
  if (own == nullptr) return;
  const Dict& part = own->as<Dict>();
  state.page.newest_path = string_or_empty(part, "newest_path");
  state.page.last_global_step_saved = part.at("last_global_step_saved").as<std::int64_t>();
  state.page.superseded = part.at("superseded").as<std::vector<std::string>>();
  state.waits = part.at("waits_for_validation").as<bool>();
}

bool is_relative(const std::string& path) { return is_local(path) && !std::filesystem::path(path).is_absolute(); }

std::string normal(const std::string& path) {
  return is_local(path) ? std::filesystem::path(path).lexically_normal().string() : path;
}

}  // namespace

std::optional<double> optional_number(const Value& value) {
  if (value.is_null()) return std::nullopt;
  if (const auto* tensor = value.get_if<at::Tensor>()) return tensor->item<double>();
  return value.as<double>();
}

Dict to_dict(const ModelCheckpointState& state) {
  const BookPage& page = state.page;
  Dict best_k_models;
  for (const auto& [path, score] : page.best_k_models) best_k_models[path] = score;
  return Dict{{"monitor", state.monitor.empty() ? Value() : Value(state.monitor)},
              {"best_model_score", number_or_null(page.best_model_score)},
              {"best_model_path", page.best_model_path},
              {"current_score", number_or_null(page.current_score)},
              {"dirpath", state.dirpath},
              {"best_k_models", std::move(best_k_models)},
              {"kth_best_model_path", page.kth_best_model_path},
              {"kth_value", number_or_null(page.kth_value)},
              {"last_model_path", page.last_model_path},
              {"ckptio", Dict{{"newest_path", page.newest_path},
                              {"last_global_step_saved", page.last_global_step_saved},
                              {"superseded", List(page.superseded.begin(), page.superseded.end())},
                              {"waits_for_validation", state.waits}}}};
}

Dict to_dict_in_file(ModelCheckpointState state, const std::string& path) {
  change_paths(state.page, [&](const std::string& other) { return name_in(state.dirpath, other); });
  state.dirpath = name_in(resolve_folder(folder_of(path)), state.dirpath);
  return to_dict(state);
}

ModelCheckpointState from_dict(const Dict& dict, const std::string& path, const std::string& own_dirpath) {
  ModelCheckpointState state;
  BookPage& page = state.page;
  state.monitor = string_or_empty(dict, "monitor");
  page.best_model_score = number_at(dict, "best_model_score");
  page.best_model_path = string_or_empty(dict, "best_model_path");
  page.current_score = number_at(dict, "current_score");
  page.kth_best_model_path = string_or_empty(dict, "kth_best_model_path");
  page.kth_value = number_at(dict, "kth_value");
  page.last_model_path = string_or_empty(dict, "last_model_path");
  if (const Value* models = dict.find("best_k_models")) {
    for (const auto& [name, score] : models->as<Dict>()) {
      page.best_k_models.emplace_back(name.as<std::string>(), optional_number(score).value_or(0));
    }
  }
  read_own_part(dict, state);

  const std::string file = path.empty() ? "" : resolve_folder(path);  // where a link leads
  const std::string written = string_or_empty(dict, "dirpath");
  state.dirpath = written;
  if (written.empty() || (is_relative(written) && file.empty())) {
    state.dirpath = own_dirpath;
  } else if (is_relative(written)) {
    state.dirpath = resolve_folder(path_in(folder_of(file), written));
  } else if (written != own_dirpath && !file.empty() && lies_in(file, own_dirpath) && !is_there(written)) {
    change_paths(page, [&](const std::string& other) { return name_in(written, other); });
    state.dirpath = own_dirpath;
  }
  change_paths(page, [&](const std::string& other) { return normal(path_in(state.dirpath, other)); });
  return state;
}

}  // namespace ckptio::detail
