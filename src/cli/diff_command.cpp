// SPDX-License-Identifier: Apache-2.0
#include "cli/diff_command.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <vector>

#include "cli/describe_text.h"
#include "cli/elements.h"
#include "cli/exit_code.h"
#include "cli/object_walk.h"
#include "cli/open_archive.h"
#include "cli/tensor_difference.h"
#include "cli/tensor_hash.h"
#include "cli/text.h"

namespace ckptio::cli {
namespace {

using detail::Object;
using detail::ObjectTensor;

// Where dicts have attributes, such as the _metadata of a module's state_dict: formats and programs that know no such
// thing leave them out, so those that stand on one side alone are no difference.
constexpr const char* kAttributes = ".__dict__";

// One object inside another. `key` tells it from the others there: equal keys on both sides name the same place.
struct Member {
  std::string key, path;
  const Object* object;
};

// Text that two keys share only if they are equal. Deep tuples as keys are no deeper than the reader's limit.
std::string key_of(const Object& object) {
  if (const auto* string = object.get<detail::ObjectString>()) return "s" + string->utf8;
  if (const auto* octets = object.get<detail::ObjectBytes>()) return "b" + octets->octets;
  const auto* tuple = object.get<detail::ObjectTuple>();
  const auto* set = object.get<detail::ObjectSet>();
  if (const auto* big = object.get<detail::ObjectBigInt>()) return "i" + big->twos_complement;
  if (const auto* device = object.get<detail::ObjectDevice>()) return "d" + device->name;
  if (const auto* layout = object.get<detail::LayoutKind>()) return "l" + std::to_string(static_cast<int>(*layout));
  if (const auto* scheme = object.get<detail::QSchemeKind>()) return "q" + std::to_string(static_cast<int>(*scheme));
  if (object.is<detail::ObjectGlobal>()) return "g" + detail::global_name(object);
  if (tuple == nullptr && set == nullptr) return std::to_string(object.held.index()) + short_text(object);
  std::vector<std::string> items;
  for (const Object* item : tuple != nullptr ? tuple->items : set->items) items.push_back(key_of(*item));
  if (set != nullptr) std::sort(items.begin(), items.end());
  std::string text = tuple != nullptr ? "t" : "f";
  for (const std::string& item : items) text += std::to_string(item.size()) + ":" + item;
  return text;
}

void add_items(std::vector<Member>& out, const std::string& path, const std::vector<Object*>& items) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::string step = "[" + std::to_string(i) + "]";
    out.push_back({step, path + step, items[i]});
  }
}

void add_entries(std::vector<Member>& out, const std::string& path,
                 const std::vector<std::pair<Object*, Object*>>& entries) {
  for (const auto& [key, value] : entries) out.push_back({key_of(*key), detail::path_step(path, *key), value});
}

void add(std::vector<Member>& out, const std::string& path, const char* what, const Object* object) {
  if (object != nullptr) out.push_back({what, path + what, object});
}

std::vector<Member> members_of(const Object& object, const std::string& path) {
  std::vector<Member> out;
  if (const auto* list = object.get<detail::ObjectList>()) add_items(out, path, list->items);
  if (const auto* tuple = object.get<detail::ObjectTuple>()) add_items(out, path, tuple->items);
  if (const auto* dict = object.get<detail::ObjectDict>()) {
    add_entries(out, path, dict->items);
    add(out, path, kAttributes, dict->attributes);
  }
  if (const auto* tensor = object.get<ObjectTensor>()) {
    for (std::size_t i = 0; i < tensor->parts.size(); ++i) {
      const std::string step = ".part" + std::to_string(i);
      out.push_back({step, path + step, tensor->parts[i]});
    }
  }
  if (const auto* opaque = object.get<detail::ObjectOpaque>()) {
    if (opaque->callable != nullptr && !opaque->callable->is<detail::ObjectGlobal>()) {
      add(out, path, ".callable", opaque->callable);
    }
    add(out, path, ".args", opaque->args);
    add(out, path, ".kwargs", opaque->kwargs);
    add_items(out, path + ".items", opaque->items);
    add_items(out, path + ".added", opaque->added);
    add_entries(out, path, opaque->entries);
    add(out, path, ".state", opaque->state);
  }
  return out;
}

// What an object is but for its members and elements: two objects of different kinds are not looked into.
std::string kind_of(const Object& object) {
  if (const auto* tensor = object.get<ObjectTensor>()) {
    static constexpr const char* kForms[] = {"", " meta", " sparse_coo", " sparse", " quantized", " nested"};
    return std::string(detail::dtype_name_of(tensor->dtype)) + " " + json_integers(tensor->sizes) +
           kForms[static_cast<std::size_t>(tensor->form)];
  }
  if (object.is<detail::ObjectOpaque>()) return printable(detail::class_name(object));
  if (const auto* dict = object.get<detail::ObjectDict>()) {
    return dict->type == DictType::counter ? "Counter" : "dict";  // an OrderedDict is a dict
  }
  if (object.is<detail::ObjectList>()) return "list";
  if (object.is<detail::ObjectTuple>()) return "tuple";
  if (object.is<detail::ObjectSet>()) return "set";
  if (object.is<bool>()) return "bool";
  if (object.is<std::int64_t>() || object.is<detail::ObjectBigInt>()) return "int";
  if (object.is<double>()) return "float";
  if (object.is<detail::ObjectString>()) return "str";
  if (object.is<detail::ObjectStorage>()) return "storage";
  return short_text(object);
}

// A difference to six digits.
std::string rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

// "3", "int 3": of what is no container, for both sides of an arrow.
std::string value_text(const Object& object, bool with_type) {
  const bool has_value = object.is<bool>() || object.is<std::int64_t>() || object.is<double>() ||
                         object.is<detail::ObjectBigInt>() || object.is<detail::ObjectString>();
  if (!has_value) return kind_of(object);
  return (with_type ? kind_of(object) + " " : "") + short_text(object);
}

class Comparison {
 public:
  Comparison(StorageBytes& a, StorageBytes& b, Console& console)
      : a_(a), b_(b), a_budget_(a), b_budget_(b), console_(console) {}

  int run() {
    pairs_.push_back({&a_.archive().root(), &b_.archive().root(), "checkpoint"});
    while (!pairs_.empty()) {
      const Pair pair = std::move(pairs_.back());
      pairs_.pop_back();
      if (met_.insert({pair.a, pair.b}).second) compare(pair);
    }
    print_totals();
    return n_differences_ == 0 ? kOk : kDifferent;
  }

 private:
  struct Pair {
    const Object *a, *b;
    std::string path;
  };

  static std::string shown(const std::string& path) { return printable(path, 1000); }

  void report(const std::string& path, const std::string& what) {
    ++n_differences_;
    console_.line(console_.paint(Style::name, shown(path)) + ": " + what);
  }

  void compare(const Pair& pair) {
    const Object &a = *pair.a, &b = *pair.b;
    const auto *a_tensor = a.get<ObjectTensor>(), *b_tensor = b.get<ObjectTensor>();
    if (a_tensor != nullptr && b_tensor != nullptr) return compare_tensors(a, b, pair.path);
    if (kind_of(a) != kind_of(b)) return report(pair.path, value_text(a, true) + " -> " + value_text(b, true));
    if (a.is<detail::ObjectOpaque>() && detail::global_name(a) != detail::global_name(b)) {
      return report(pair.path, printable(detail::global_name(a)) + " -> " + printable(detail::global_name(b)));
    }
    const bool is_leaf = !is_container(a) && !is_container(b) && !a.is<detail::ObjectOpaque>();
    if (is_leaf || a.is<detail::ObjectSet>() || a.is<detail::ObjectByteArray>()) return compare_values(a, b, pair.path);
    compare_members(a, b, pair.path);
  }

  void compare_values(const Object& a, const Object& b, const std::string& path) {
    ++n_values_;
    const auto *x = a.get<double>(), *y = b.get<double>();
    const bool both_nan = x != nullptr && y != nullptr && std::isnan(*x) && std::isnan(*y);
    const auto *p = a.get<detail::ObjectByteArray>(), *q = b.get<detail::ObjectByteArray>();
    if (p != nullptr && q != nullptr) {
      if (p->octets != q->octets) report(path, "bytearrays that differ");
      return;
    }
    if (const auto* s = a.get<detail::ObjectStorage>(), *t = b.get<detail::ObjectStorage>();
        s != nullptr && t != nullptr) {
      return compare_storages(s->storage, t->storage, path);
    }
    if (both_nan || key_of(a) == key_of(b)) return;
    report(path, a.is<detail::ObjectSet>() ? "sets that differ" : value_text(a, false) + " -> " + value_text(b, false));
  }

  void compare_storages(std::uint32_t a, std::uint32_t b, const std::string& path) {
    const auto bytes_in = [](const StorageBytes& bytes, std::uint32_t storage) {
      const auto n_bytes = static_cast<std::int64_t>(bytes.archive().storages()[storage].n_bytes);
      return TensorView{detail::DType::uint8, {n_bytes}, {1}, 0, storage};
    };
    const TensorView x = bytes_in(a_, a), y = bytes_in(b_, b);
    if (x.sizes != y.sizes) {
      return report(path, "a storage of " + std::to_string(x.sizes[0]) + " B -> " + std::to_string(y.sizes[0]) + " B");
    }
    if (difference(a_, x, b_, y).n_different > 0) report(path, "storages that differ");
  }

  void compare_members(const Object& a, const Object& b, const std::string& path) {
    const std::vector<Member> left = members_of(a, path), right = members_of(b, path);
    std::map<std::string, const Member*> by_key;
    for (const Member& member : right) by_key.emplace(member.key, &member);
    std::vector<Pair> common;
    for (const Member& member : left) {
      const auto found = by_key.find(member.key);
      if (found == by_key.end()) {
        if (member.key == kAttributes) continue;
        report(member.path, "only in the first: " + value_text(*member.object, true));
      } else {
        common.push_back({member.object, found->second->object, member.path});
        by_key.erase(found);
      }
    }
    for (const Member& member : right) {
      if (by_key.count(member.key) > 0 && member.key != kAttributes)
        report(member.path, "only in the second: " + value_text(*member.object, true));
    }
    pairs_.insert(pairs_.end(), std::make_move_iterator(common.rbegin()), std::make_move_iterator(common.rend()));
  }

  void compare_tensors(const Object& a, const Object& b, const std::string& path) {
    const ObjectTensor &x = *a.get<ObjectTensor>(), &y = *b.get<ObjectTensor>();
    ++n_tensors_;
    const std::uint64_t n_before = n_differences_;
    if (kind_of(a) != kind_of(b)) report(path, kind_of(a) + " -> " + kind_of(b));
    const bool scaled_alike = x.form != ObjectTensor::Form::quantized || y.form != ObjectTensor::Form::quantized ||
                              (x.scale == y.scale && x.zero_point == y.zero_point && x.axis == y.axis);
    if (!scaled_alike) report(path, "quantized with another scale or zero point");
    const auto x_view = view_of(x), y_view = view_of(y);
    const bool same_shape = x.sizes == y.sizes && x.form == y.form && n_parts(x.dtype) == n_parts(y.dtype);
    if (x_view && y_view && same_shape) compare_elements(*x_view, *y_view, path);
    if (!x.parts.empty() && same_shape) compare_members(a, b, path);
    n_different_tensors_ += n_differences_ > n_before;
  }

  void compare_elements(const TensorView& x, const TensorView& y, const std::string& path) {
    if (!a_budget_.afford(n_bytes_of(x)) || !b_budget_.afford(n_bytes_of(y))) {
      return report(path, "not compared: a small storage that claims to be an enormous tensor");
    }
    const TensorDifference found = difference(a_, x, b_, y);
    if (found.n_different == 0) return;
    std::string text = std::to_string(found.n_different) + " of " +
                       count_text(n_elements(x.sizes), "element differs", "elements differ") + ", by up to " +
                       rounded(found.absolute) + " (relative " + rounded(found.relative) + ")";
    if (found.n_nan > 0) text += ", " + std::to_string(found.n_nan) + " of them NaN on one side";
    report(path, text);
    if (found.absolute > largest_.absolute) largest_.absolute = found.absolute, largest_absolute_at_ = path;
    if (found.relative > largest_.relative) largest_.relative = found.relative, largest_relative_at_ = path;
  }

  void print_totals() {
    const std::string counts =
        count_text(n_tensors_, "tensor", "tensors") + ", " + count_text(n_values_, "other value", "other values");
    if (n_differences_ == 0) return console_.line("equal: " + counts);
    if (!largest_absolute_at_.empty()) {
      console_.line("largest difference " + rounded(largest_.absolute) + " at " + shown(largest_absolute_at_) +
                    ", largest relative difference " + rounded(largest_.relative) + " at " + largest_relative_at_);
    }
    console_.line("different in " + count_text(n_differences_, "place", "places") + "; " + counts + " compared, " +
                  std::to_string(n_different_tensors_) + " of the tensors differ");
  }

  StorageBytes &a_, &b_;
  TensorHash a_budget_, b_budget_;
  Console& console_;
  std::vector<Pair> pairs_;
  std::set<std::pair<const Object*, const Object*>> met_;
  std::uint64_t n_differences_ = 0, n_tensors_ = 0, n_different_tensors_ = 0, n_values_ = 0;
  TensorDifference largest_;
  std::string largest_absolute_at_, largest_relative_at_;
};

}  // namespace

int diff(const DiffOptions& options, Console& console) {
  const detail::Archive a = open_archive(options.a), b = open_archive(options.b);
  std::uint64_t n_all = 0;
  for (const auto* archive : {&a, &b}) {
    for (const detail::StorageRecord& record : archive->storages()) n_all += record.n_bytes;
  }
  Progress progress("comparing", n_all);
  StorageBytes a_bytes(a, progress.adder()), b_bytes(b, progress.adder());
  return Comparison(a_bytes, b_bytes, console).run();
}

}  // namespace ckptio::cli
