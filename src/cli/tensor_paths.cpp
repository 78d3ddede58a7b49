// SPDX-License-Identifier: Apache-2.0
#include "cli/tensor_paths.h"

#include "cli/object_walk.h"

namespace ckptio::cli {
namespace {

using detail::Object;

using Place = std::pair<std::string, const Object*>;

void add_items(std::vector<Place>& out, const std::string& path, const std::vector<Object*>& items) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (has_identity(*items[i])) out.emplace_back(path + "[" + std::to_string(i) + "]", items[i]);
  }
}

std::vector<Place> places_in(const std::string& path, const Object& object) {
  std::vector<Place> out;
  if (const auto* list = object.get<detail::ObjectList>()) {
    add_items(out, path, list->items);
  } else if (const auto* tuple = object.get<detail::ObjectTuple>()) {
    add_items(out, path, tuple->items);
  } else if (const auto* dict = object.get<detail::ObjectDict>()) {
    for (const auto& [key, value] : dict->items) {
      if (is_container(*key)) out.emplace_back(path, key);
      if (has_identity(*value)) out.emplace_back(detail::path_step(path, *key), value);
    }
    if (dict->attributes != nullptr) out.emplace_back(path + ".__dict__", dict->attributes);
  } else {
    for_each_child(object, [&](const Object* child) { out.emplace_back(path, child); });
    const auto* tensor = object.get<detail::ObjectTensor>();
    if (tensor != nullptr && tensor->attributes != nullptr) out.emplace_back(path + ".__dict__", tensor->attributes);
  }
  return out;
}

}  // namespace

std::vector<std::pair<std::string, const detail::ObjectTensor*>> tensor_paths(const Object& root,
                                                                              const std::string& name) {
  std::vector<std::pair<std::string, const detail::ObjectTensor*>> found;
  PointerSet met;
  std::vector<Place> stack = {{name, &root}};
  while (!stack.empty()) {
    const auto [path, object] = std::move(stack.back());
    stack.pop_back();
    if (!met.insert(object)) continue;
    if (const auto* tensor = object->get<detail::ObjectTensor>()) found.emplace_back(path, tensor);
    std::vector<Place> inside = places_in(path, *object);
    stack.insert(stack.end(), std::make_move_iterator(inside.rbegin()), std::make_move_iterator(inside.rend()));
  }
  return found;
}

}  // namespace ckptio::cli
