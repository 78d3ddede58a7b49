// SPDX-License-Identifier: Apache-2.0
#include <unordered_set>

#include "codec/known_globals.h"
#include "codec/limits.h"
#include "codec/object.h"

namespace ckptio::detail {
namespace {

// A longer path shows this many steps at its begin and its end: there may be many, and they shall not cost memory.
constexpr std::size_t kShownSteps = 8;

std::string index_step(const std::string& path, std::size_t index) { return path + "[" + std::to_string(index) + "]"; }

std::string opaque_step(const std::string& path, const ObjectOpaque& opaque, std::size_t i) {
  if (i == 0) return path + ".callable";
  if (i == 1) return path + ".args";
  if (i == 2) return path + ".kwargs";
  i -= 3;
  if (i < opaque.items.size()) return index_step(path, i);
  i -= opaque.items.size();
  if (i < opaque.added.size()) return path + ".added";
  i -= opaque.added.size();
  if (i < 2 * opaque.entries.size()) return path_step(path, *opaque.entries[i / 2].first);
  return path + (opaque.state->is<ObjectDict>() ? ".__dict__" : ".state");
}

// The path to child `i` of `object`, whose own is `path`.
std::string child_path(const std::string& path, const Object& object, std::size_t i) {
  if (object.is<ObjectList>() || object.is<ObjectTuple>()) return index_step(path, i);
  if (const auto* opaque = object.get<ObjectOpaque>()) return opaque_step(path, *opaque, i);
  if (const auto* dict = object.get<ObjectDict>()) {
    return i == 2 * dict->items.size() ? path + ".__dict__" : path_step(path, *dict->items[i / 2].first);
  }
  if (const auto* tensor = object.get<ObjectTensor>()) {
    if (i < tensor->parts.size()) return index_step(path + ".parts", i);
    return path + (i == tensor->parts.size() ? ".__dict__" : "._backward_hooks");
  }
  return path + ".items";  // of a set, which have no order
}

bool is_known(const ObjectGlobal& global) {
  return find_known_global(PickleDialect::libtorch, global.module, global.name) != Known::none;
}

class OpaqueSearch {
 public:
  explicit OpaqueSearch(const Object* root) {
    visit(root);
    while (!open_.empty() && places_.size() < kMaxOpaquePlaces) {
      Open& top = open_.back();
      if (top.n_done == n_children(*top.object)) {
        if (top.object->is<ObjectOpaque>()) --n_open_opaque_;
        open_.pop_back();
        continue;
      }
      const Object* next = child(*top.object, top.n_done++);
      if (next == nullptr) continue;
      // What an ObjectOpaque is made by has been named with it.
      const bool is_callable = top.object->is<ObjectOpaque>() && top.n_done == 1;
      if (!is_callable || !next->is<ObjectGlobal>()) visit(next);
    }
  }

  std::vector<OpaquePlace> take() { return std::move(places_); }

 private:
  struct Open {
    const Object* object;
    std::size_t n_done;  // children
  };

  void visit(const Object* object) {
    const auto* global = object->get<ObjectGlobal>();
    if (global == nullptr && n_children(*object) == 0) return;
    if (global != nullptr && n_open_opaque_ > 0 && is_known(*global)) return;
    if (!seen_.insert(object).second) return;
    if (global != nullptr || object->is<ObjectOpaque>()) places_.push_back({global_name(*object), path()});
    if (global != nullptr) return;
    if (object->is<ObjectOpaque>()) ++n_open_opaque_;
    open_.push_back({object, 0});
  }

  // Of the object that is visited: the step that each open one is at.
  std::string path() const {
    std::string path = "checkpoint";
    for (std::size_t i = 0; i < open_.size(); ++i) {
      if (i == kShownSteps && open_.size() > 2 * kShownSteps) {
        path += "...";
        i = open_.size() - kShownSteps;
      }
      path = child_path(path, *open_[i].object, open_[i].n_done - 1);
    }
    return path;
  }

  std::vector<Open> open_;
  std::unordered_set<const Object*> seen_;
  std::vector<OpaquePlace> places_;
  std::size_t n_open_opaque_ = 0;
};

}  // namespace

std::vector<OpaquePlace> find_opaque(const Object* root) { return OpaqueSearch(root).take(); }

}  // namespace ckptio::detail
