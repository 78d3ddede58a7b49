// SPDX-License-Identifier: Apache-2.0
#include "cli/diff_command.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <unordered_map>
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

// Recursion goes as deep as the containers of a file, which the reader bounds (kMaxDepth).
class Comparison {
 public:
  Comparison(StorageBytes& a, StorageBytes& b, Console& console)
      : a_(a), b_(b), a_budget_(a), b_budget_(b), console_(console) {}

  int run() {
    const Object &a = a_.archive().root(), &b = b_.archive().root();
    PointerSet met;
    for (const Object* object : find_shared(a, true, met)) shared_.insert(object);
    compare(a, b, "checkpoint");
    print_totals();
    return n_differences_ == 0 ? kOk : kDifferent;
  }

 private:
  using Entries = std::vector<std::pair<Object*, Object*>>;

  static std::string shown(const std::string& path) { return printable(path, 1000); }

  void report(const std::string& path, const std::string& what) {
    ++n_differences_;
    console_.line(console_.paint(Style::name, shown(path)) + ": " + what);
  }

  void compare(const Object& a, const Object& b, const std::string& path) {
    if (shared_.contains(&a) && !met_.insert({&a, &b}).second) return;  // also ends cycles: they are met again
    const auto *a_tensor = a.get<ObjectTensor>(), *b_tensor = b.get<ObjectTensor>();
    if (a_tensor != nullptr && b_tensor != nullptr) return compare_tensors(a, b, path);
    if (kind_of(a) != kind_of(b)) return report(path, value_text(a, true) + " -> " + value_text(b, true));
    if (const auto* x = a.get<detail::ObjectOpaque>(), *y = b.get<detail::ObjectOpaque>();
        x != nullptr && y != nullptr) {
      return compare_opaque(a, *x, b, *y, path);
    }
    if (const auto* x = a.get<detail::ObjectList>(), *y = b.get<detail::ObjectList>(); x != nullptr && y != nullptr) {
      return compare_items(x->items, y->items, path);
    }
    const auto *x = a.get<detail::ObjectTuple>(), *y = b.get<detail::ObjectTuple>();
    if (x != nullptr && y != nullptr && !x->is_size) return compare_items(x->items, y->items, path);
    if (const auto* p = a.get<detail::ObjectDict>(), *q = b.get<detail::ObjectDict>(); p != nullptr && q != nullptr) {
      compare_entries(p->items, q->items, path);
      if (p->attributes != nullptr && q->attributes != nullptr) {
        compare(*p->attributes, *q->attributes, path + ".__dict__");
      }
      return;
    }
    compare_values(a, b, path);
  }

  void only(const char* where, const std::string& path, const Object& object) {
    report(path, std::string("only in the ") + where + ": " + value_text(object, true));
  }

  void compare_items(const std::vector<Object*>& a, const std::vector<Object*>& b, const std::string& path) {
    for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
      const std::string at = path + "[" + std::to_string(i) + "]";
      if (i >= b.size()) {
        only("first", at, *a[i]);
      } else if (i >= a.size()) {
        only("second", at, *b[i]);
      } else {
        compare(*a[i], *b[i], at);
      }
    }
  }

  // By their keys, which most often come in the same order.
  void compare_entries(const Entries& a, const Entries& b, const std::string& path) {
    std::size_t n_same = 0;
    for (; n_same < std::min(a.size(), b.size()) && key_of(*a[n_same].first) == key_of(*b[n_same].first); ++n_same) {
      compare(*a[n_same].second, *b[n_same].second, detail::path_step(path, *a[n_same].first));
    }
    std::unordered_map<std::string, const Object*> rest;
    for (std::size_t i = n_same; i < b.size(); ++i) rest.emplace(key_of(*b[i].first), b[i].second);
    for (std::size_t i = n_same; i < a.size(); ++i) {
      const auto found = rest.find(key_of(*a[i].first));
      const std::string at = detail::path_step(path, *a[i].first);
      if (found == rest.end()) {
        only("first", at, *a[i].second);
      } else {
        compare(*a[i].second, *found->second, at);
        rest.erase(found);
      }
    }
    for (std::size_t i = n_same; i < b.size() && !rest.empty(); ++i) {
      if (rest.count(key_of(*b[i].first)) > 0) only("second", detail::path_step(path, *b[i].first), *b[i].second);
    }
  }

  // A field that either may lack.
  void compare_field(const Object* a, const Object* b, const std::string& path) {
    if (a != nullptr && b != nullptr) return compare(*a, *b, path);
    if (a != nullptr) only("first", path, *a);
    if (b != nullptr) only("second", path, *b);
  }

  void compare_opaque(const Object& a, const detail::ObjectOpaque& x, const Object& b, const detail::ObjectOpaque& y,
                      const std::string& path) {
    if (detail::global_name(a) != detail::global_name(b)) {
      return report(path, printable(detail::global_name(a)) + " -> " + printable(detail::global_name(b)));
    }
    compare_field(x.args, y.args, path + ".args");
    compare_field(x.kwargs, y.kwargs, path + ".kwargs");
    compare_items(x.items, y.items, path);
    compare_items(x.added, y.added, path);
    compare_entries(x.entries, y.entries, path);
    compare_field(x.state, y.state, path + ".__dict__");
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
    if (!x.parts.empty() && same_shape) compare_items(x.parts, y.parts, path + ".parts");
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
  PointerSet shared_;                                      // objects of the first that are met more than once
  std::set<std::pair<const Object*, const Object*>> met_;  // pairs with one of those
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
