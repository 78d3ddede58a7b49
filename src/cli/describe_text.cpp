// SPDX-License-Identifier: Apache-2.0
#include "cli/describe_text.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <unordered_map>

#include "cli/elements.h"
#include "cli/object_walk.h"
#include "cli/tensor_bytes.h"
#include "cli/text.h"

namespace ckptio::cli {
namespace {

using detail::Object;
using detail::ObjectTensor;

constexpr int kMaxDepth = 40;                            // what is deeper is not shown; also bounds the recursion
constexpr std::size_t kMaxNameWidth = 48;                // of the column of names
constexpr std::size_t kMaxLineItems = 8;                 // of a list shown in its line
constexpr std::uint64_t kMaxElements = 16;               // of a tensor whose values are shown
constexpr std::size_t kMaxValue = std::size_t{1} << 20;  // characters, with_values

bool is_plain(const Object& object) {
  return !is_container(object) && !object.is<ObjectTensor>() && !object.is<detail::ObjectOpaque>();
}

std::string name_of(const Object& key) {
  const auto* string = key.get<detail::ObjectString>();
  if (string == nullptr) {
    if (is_plain(key)) return short_text(key);
    return key.is<detail::ObjectTuple>() ? "(tuple)" : "(key)";
  }
  bool bare = false;  // has something that no number has
  for (const char c : string->utf8) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '-' && c != '/') return quoted(string->utf8);
    bare = bare || letter;
  }
  return bare && string->utf8.size() < 200 ? string->utf8 : quoted(string->utf8);
}

std::string shape_text(std::span<const std::int64_t> sizes) { return json_integers(sizes); }

class TreePrinter {
 public:
  TreePrinter(StorageBytes& bytes, bool with_values, Console& console)
      : bytes_(bytes), graph_(bytes.archive().graph()), with_values_(with_values), console_(console) {
    const Object& root = bytes.archive().root();
    for_each_object(root, [&](const Object& object) {
      const auto* tensor = object.get<ObjectTensor>();
      if (tensor != nullptr && tensor->storage != ObjectTensor::kNoStorage) ++uses_[tensor->storage];
    });
    PointerSet met;
    for (const Object* object : find_shared(root, true, met)) shared_.insert(object);
  }

  void print(const Object& root) {
    if (is_container(root) || root.is<detail::ObjectOpaque>()) {
      console_.line(summary(root));
      if (shared_.contains(&root)) seen_.emplace(&root, "the root");
      print_children(root, 1, "");
    } else {
      console_.line(line_of(root));
    }
  }

 private:
  // Calls `use(name, object)` for what is shown below an object.
  template <typename Use>
  void for_each_named(const Object& object, const Use& use) const {
    const auto use_items = [&](const std::vector<Object*>& items, const std::string& begin, const char* end) {
      for (std::size_t i = 0; i < items.size(); ++i) use(begin + std::to_string(i) + end, *items[i]);
    };
    const auto use_entries = [&](const std::vector<std::pair<Object*, Object*>>& entries, const char* begin) {
      for (const auto& [key, value] : entries) use(begin + name_of(*key), *value);
    };
    if (const auto* list = object.get<detail::ObjectList>()) use_items(list->items, "[", "]");
    if (const auto* tuple = object.get<detail::ObjectTuple>()) use_items(tuple->items, "[", "]");
    if (const auto* set = object.get<detail::ObjectSet>()) use_items(set->items, "[", "]");
    if (const auto* dict = object.get<detail::ObjectDict>()) {
      use_entries(dict->items, "");
      const auto* attributes = dict->attributes == nullptr ? nullptr : dict->attributes->get<detail::ObjectDict>();
      if (attributes != nullptr) use_entries(attributes->items, ".");
    }
    const auto* opaque = object.get<detail::ObjectOpaque>();
    if (opaque == nullptr) return;
    if (opaque->callable != nullptr && !opaque->callable->is<detail::ObjectGlobal>())
      use("(callable)", *opaque->callable);
    const auto* args = opaque->args == nullptr ? nullptr : opaque->args->get<detail::ObjectTuple>();
    if (args != nullptr) use_items(args->items, "(argument ", ")");
    if (opaque->kwargs != nullptr) use("(keyword arguments)", *opaque->kwargs);
    use_items(opaque->items, "[", "]");
    use_items(opaque->added, "[", "]");
    use_entries(opaque->entries, "");
    const auto* fields = opaque->state == nullptr ? nullptr : opaque->state->get<detail::ObjectDict>();
    if (fields != nullptr && !shared_.contains(opaque->state)) {
      use_entries(fields->items, ".");
    } else if (opaque->state != nullptr) {
      use("(state)", *opaque->state);
    }
  }

  void print_children(const Object& object, int depth, const std::string& path) {
    std::size_t width = 0;
    for_each_named(object, [&](const std::string& name, const Object&) {
      width = std::max(width, std::min(kMaxNameWidth, n_code_points(name)));
    });
    const std::string indent(static_cast<std::size_t>(2 * depth), ' ');
    for_each_named(object, [&](const std::string& name, const Object& child) {
      const std::size_t n_points = n_code_points(name);
      const std::string padding(n_points < width ? width - n_points + 2 : 2, ' ');
      console_.write(indent + console_.paint(Style::name, name) + padding);
      const bool joined = path.empty() || name.starts_with('[') || name.starts_with('.');
      print_child(child, depth, path + (joined ? "" : " / ") + name);
    });
  }

  void print_child(const Object& object, int depth, const std::string& path) {
    const bool has_children = is_container(object) || object.is<detail::ObjectOpaque>();
    if (has_children && shared_.contains(&object)) {
      const auto [seen, is_new] = seen_.emplace(&object, path);
      if (!is_new)
        return console_.line(summary(object) + console_.paint(Style::faint, ", the same as " + seen->second));
    }
    if (!has_children || is_short(object)) return console_.line(line_of(object));
    console_.line(summary(object));
    if (path.find("._metadata") != std::string::npos && !with_values_) return;  // versions of modules
    if (depth >= kMaxDepth) return console_.line(std::string(static_cast<std::size_t>(2 * depth + 2), ' ') + "...");
    print_children(object, depth + 1, path);
  }

  // A list or tuple of plain values, which fits into a line.
  bool is_short(const Object& object) const {
    const auto* list = object.get<detail::ObjectList>();
    const auto* tuple = object.get<detail::ObjectTuple>();
    const auto* set = object.get<detail::ObjectSet>();
    if (list == nullptr && tuple == nullptr && set == nullptr) return object.is<detail::ObjectByteArray>();
    const auto& items = list != nullptr ? list->items : tuple != nullptr ? tuple->items : set->items;
    return std::all_of(items.begin(), items.end(), [](const Object* item) { return is_plain(*item); });
  }

  std::string summary(const Object& object) const {
    const auto entries = [](std::size_t n) { return ", " + count_text(n, "entry", "entries"); };
    const auto items = [](std::size_t n) { return ", " + count_text(n, "item", "items"); };
    std::string type, rest;
    if (const auto* dict = object.get<detail::ObjectDict>()) {
      static constexpr const char* kNames[] = {"dict", "OrderedDict", "Counter"};
      type = kNames[static_cast<std::size_t>(dict->type)];
      rest = entries(dict->items.size());
    } else if (const auto* list = object.get<detail::ObjectList>()) {
      type = "list", rest = items(list->items.size());
    } else if (const auto* tuple = object.get<detail::ObjectTuple>()) {
      type = "tuple", rest = items(tuple->items.size());
    } else if (const auto* set = object.get<detail::ObjectSet>()) {
      type = set->frozen ? "frozenset" : "set", rest = items(set->items.size());
    } else if (const auto* octets = object.get<detail::ObjectByteArray>()) {
      type = "bytearray", rest = ", " + size_text(octets->octets.size());
    } else {
      return console_.paint(Style::type, printable(detail::class_name(object))) +
             console_.paint(Style::faint, ", an object kept as data");
    }
    return console_.paint(Style::type, type) + rest;
  }

  std::string line_of(const Object& object) {
    if (const auto* tensor = object.get<ObjectTensor>()) return tensor_line(*tensor);
    if (!is_container(object)) return value_line(object);
    std::string text;
    std::size_t n_items = 0;
    for_each_child(object, [&](const Object* item) {
      if (n_items++ < kMaxLineItems || with_values_) text += (n_items > 1 ? ", " : "") + short_text(*item);
    });
    if (n_items == 0) return summary(object);
    if (n_items > kMaxLineItems && !with_values_) text += ", ... " + std::to_string(n_items) + " in all";
    const bool is_tuple = object.is<detail::ObjectTuple>(), is_set = object.is<detail::ObjectSet>();
    text = (is_tuple ? "(" : is_set ? "{" : "[") + text + (is_tuple ? ")" : is_set ? "}" : "]");
    return console_.paint(Style::type, is_tuple ? "tuple" : is_set ? "set" : "list") + " " + text;
  }

  std::string value_line(const Object& object) const {
    const auto* string = object.get<detail::ObjectString>();
    if (string != nullptr) {
      return console_.paint(Style::type, "str") + " " + quoted(string->utf8, with_values_ ? kMaxValue : 60);
    }
    const char* type = object.is<detail::ObjectNone>()                                  ? ""
                       : object.is<bool>()                                              ? "bool"
                       : object.is<std::int64_t>() || object.is<detail::ObjectBigInt>() ? "int"
                       : object.is<double>()                                            ? "float"
                       : object.is<std::complex<double>>()                              ? "complex"
                       : object.is<detail::ObjectBytes>()                               ? "bytes"
                       : object.is<detail::ObjectDevice>()                              ? "device"
                       : object.is<detail::ObjectStorage>()                             ? "storage"
                       : object.is<detail::ObjectGlobal>()                              ? "global"
                                                                                        : "";
    const std::string text = short_text(object);
    return *type == '\0' ? text : console_.paint(Style::type, type) + " " + text;
  }

  std::string tensor_line(const ObjectTensor& tensor) {
    std::string text =
        console_.paint(Style::type, detail::dtype_name_of(tensor.dtype)) + " " + shape_text(tensor.sizes);
    std::string notes;
    const auto note = [&](const std::string& what) { notes += ", " + what; };
    const auto view = view_of(tensor);
    if (view) text += "  " + size_text(n_bytes_of(*view));
    if (tensor.form == ObjectTensor::Form::meta) note("meta, without data");
    if (tensor.form == ObjectTensor::Form::nested) note("nested");
    if (tensor.form == ObjectTensor::Form::quantized) note("quantized");
    if (tensor.form == ObjectTensor::Form::sparse_coo) note("sparse_coo");
    if (tensor.form == ObjectTensor::Form::sparse_compressed) note("sparse, compressed");
    if (tensor.is_parameter) note("Parameter");
    if (tensor.requires_grad && !tensor.is_parameter) note("requires grad");
    if (tensor.conj) note("conjugated view");
    if (tensor.neg) note("negated view");
    if (view) note_storage(*view, note);
    text += console_.paint(Style::faint, notes);
    if (with_values_ && view) text += values_text(tensor, *view);
    return text;
  }

  template <typename Note>
  void note_storage(const TensorView& view, const Note& note) const {
    const detail::StorageInfo& info = graph_.storages[view.storage];
    const auto uses = uses_.find(view.storage);
    if (n_bytes_of(view) != info.n_bytes) {
      note("part of storage " + printable(info.key, 20) + " (" + size_text(info.n_bytes) + ")");
    } else if (uses != uses_.end() && uses->second > 1) {
      note("shares storage " + printable(info.key, 20));
    }
    if (info.location != "cpu" && !info.location.empty()) note("on " + printable(info.location, 20));
  }

  std::string values_text(const ObjectTensor& tensor, const TensorView& view) {
    if (n_elements(view.sizes) > kMaxElements) return "";
    const std::vector<unsigned char> bytes = bytes_of(bytes_, view);
    const std::size_t item = detail::item_size(tensor.dtype);
    std::string text;
    for (std::size_t i = 0; i + item <= bytes.size(); i += item) {
      text += (i > 0 ? ", " : "") + element_text(tensor.dtype, &bytes[i]);
    }
    return " = [" + text + "]";
  }

  StorageBytes& bytes_;
  const detail::ObjectGraph& graph_;
  bool with_values_;
  Console& console_;
  std::map<std::uint32_t, std::uint64_t> uses_;
  PointerSet shared_;                                    // what is met more than once
  std::unordered_map<const Object*, std::string> seen_;  // of those, and where it was first
};

}  // namespace

std::string short_text(const Object& object) {
  if (object.is<detail::ObjectNone>()) return "None";
  if (const auto* flag = object.get<bool>()) return *flag ? "True" : "False";
  if (const auto* number = object.get<std::int64_t>()) return std::to_string(*number);
  if (const auto* big = object.get<detail::ObjectBigInt>()) return printable(integer_text(big->twos_complement), 80);
  if (const auto* real = object.get<double>()) return number_text(*real);
  if (const auto* complex = object.get<std::complex<double>>()) {
    return number_text(complex->real()) + (std::signbit(complex->imag()) ? "" : "+") + number_text(complex->imag()) +
           "j";
  }
  if (const auto* string = object.get<detail::ObjectString>()) return quoted(string->utf8);
  if (const auto* octets = object.get<detail::ObjectBytes>()) {
    return size_text(octets->octets.size()) + (octets->octets.empty() ? "" : ": ") +
           hex_of(octets->octets.substr(0, 16)) + (octets->octets.size() > 16 ? "..." : "");
  }
  if (const auto* dtype = object.get<detail::DType>()) return "torch." + std::string(detail::dtype_name_of(*dtype));
  if (const auto* device = object.get<detail::ObjectDevice>()) return quoted(device->name);
  if (object.is<detail::LayoutKind>()) return "torch.layout";
  if (object.is<detail::QSchemeKind>()) return "torch.qscheme";
  if (const auto* storage = object.get<detail::ObjectStorage>()) return "storage " + std::to_string(storage->storage);
  if (const auto* tensor = object.get<ObjectTensor>()) {
    return std::string(detail::dtype_name_of(tensor->dtype)) + " " + shape_text(tensor->sizes);
  }
  if (const auto* tuple = object.get<detail::ObjectTuple>();
      tuple != nullptr && (tuple->is_size || tuple->items.empty())) {
    std::string text;
    for (const Object* item : tuple->items) text += (text.empty() ? "" : ", ") + short_text(*item);
    return tuple->is_size ? "torch.Size([" + text + "])" : "()";
  }
  if (object.is<detail::ObjectGlobal>()) return printable(detail::global_name(object));
  return "...";
}

void describe_text(StorageBytes& bytes, bool with_values, Console& console) {
  TreePrinter(bytes, with_values, console).print(bytes.archive().root());
}

}  // namespace ckptio::cli
