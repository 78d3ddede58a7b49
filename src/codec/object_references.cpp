// SPDX-License-Identifier: Apache-2.0
#include "codec/object_references.h"

#include <string_view>

#include "hash/hash_table.h"

namespace ckptio::detail {
namespace {

// Can be made empty and filled afterwards, so that it can be met while it is filled.
bool is_filled_later(const Object& object) {
  const auto* set = object.get<ObjectSet>();
  return object.is<ObjectList>() || object.is<ObjectDict>() || (set != nullptr && !set->frozen);
}

// Written again wherever it is used: it has no identity that anyone could see.
bool is_plain(const Object& object) {
  return object.is<ObjectNone>() || object.is<bool>() || object.is<std::int64_t>() || object.is<double>() ||
         object.is<std::complex<double>>() || object.is<DType>() || object.is<ObjectDevice>() ||
         object.is<LayoutKind>() || object.is<QSchemeKind>() || object.is<ObjectStorage>() || object.is<ObjectGlobal>();
}

class Counter {
 public:
  explicit Counter(const ObjectGraph& graph) { result_.uses.resize(graph.objects.size()); }

  ObjectReferences count(const Object& root) && {
    meet(root);
    while (!open_.empty()) {
      Open& top = open_.back();
      if (top.next == top.n_children) {
        use(*top.object).is_open = false;
        open_.pop_back();
      } else if (const Object* inside = child(*top.object, top.next++)) {
        meet(*inside);
      }
    }
    return std::move(result_);
  }

 private:
  // An object that is entered, and which of those that it holds is the next one to meet.
  struct Open {
    const Object* object;
    std::size_t next, n_children;
  };

  ObjectReferences::Use& use(const Object& object) { return result_.uses[object.number]; }

  void meet(const Object& object) {
    ++result_.n_references;
    if (const auto* text = object.get<ObjectString>()) return meet_text(object, text->utf8);
    if (is_plain(object)) return;
    ObjectReferences::Use& use = this->use(object);
    if (use.is_used) {
      use.is_used_again = true;
      if (!use.is_open) return;
      use.holds_itself = true;
      if (!is_filled_later(object)) result_.has_indirect_cycle = true;
      return;
    }
    use.is_used = true;
    if (object.is<ObjectTensor>()) ++result_.n_tensors;
    const std::size_t n = n_children(object);
    if (n == 0) return;
    use.is_open = true;
    open_.push_back({&object, 0, n});
  }

  // A text is one thing, in whichever objects it stands.
  void meet_text(const Object& object, std::string_view text) {
    result_.n_text_bytes += text.size();
    const auto number = static_cast<std::uint32_t>(texts_.size());
    const std::uint32_t known = by_text_.get_or_add(
        hash_of(text), number, [&](std::uint32_t i) { return texts_[i]->get<ObjectString>()->utf8 == text; });
    if (known == number) {
      texts_.push_back(&object);
    } else {
      use(object).is_used_again = use(*texts_[known]).is_used_again = true;
    }
  }

  ObjectReferences result_;
  std::vector<Open> open_;
  std::vector<const Object*> texts_;  // the first object of each
  HashTable<std::uint32_t> by_text_;
};

}  // namespace

ObjectReferences count_references(const ObjectGraph& graph, const Object& root) { return Counter(graph).count(root); }

}  // namespace ckptio::detail
