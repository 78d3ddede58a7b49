// SPDX-License-Identifier: Apache-2.0
// Reads pickles that tests put together, and shows the result as one line of text.
#pragma once

#include <map>
#include <string>

#include "ckptio/error.h"
#include "codec/object.h"
#include "codec/pickle_reader.h"

namespace ckptio::test {

inline detail::ObjectGraph read_graph(const std::string& bytes,
                                      detail::PickleDialect dialect = detail::PickleDialect::python) {
  detail::ObjectGraph graph;
  const detail::ByteSource source = detail::memory_source("file.pt", bytes.data(), bytes.size());
  detail::read_pickle(graph, source, {"archive/data.pkl", dialect, 0});
  return graph;
}

// Python-like: "{'a': [1, 2.5]}". An object met again within itself, or a container met twice, is "#N", counted from 1
// in the order of first sight; what it stands for is marked "#N=" where it is met first.
class GraphText {
 public:
  std::string operator()(const detail::Object& object) {
    count(object);
    return text(object);
  }

 private:
  using Object = detail::Object;
  static bool is_container(const Object& object) {
    return detail::n_children(object) > 0 || object.is<detail::ObjectList>() || object.is<detail::ObjectDict>();
  }
  void count(const Object& object) {
    if (!is_container(object) || ++counts_[&object] > 1) return;
    for (std::size_t i = 0; i < detail::n_children(object); ++i) {
      if (const Object* next = detail::child(object, i)) count(*next);
    }
  }
  std::string text(const Object& object) {
    if (!is_container(object) || counts_[&object] < 2) return plain(object);
    const auto [place, is_new] = numbers_.try_emplace(&object, numbers_.size() + 1);
    const std::string number = "#" + std::to_string(place->second);
    return is_new ? number + "=" + plain(object) : number;
  }
  template <class Items>
  std::string items_text(const char* open, const Items& items, const char* close) {
    std::string all = open;
    const std::size_t n_open = all.size();
    for (const Object* item : items) all += (all.size() > n_open ? ", " : "") + text(*item);
    return all + close;
  }
  std::string dict_text(const std::vector<std::pair<Object*, Object*>>& items) {
    std::string all = "{";
    for (const auto& [key, value] : items) all += (all.size() > 1 ? ", " : "") + text(*key) + ": " + text(*value);
    return all + "}";
  }
  std::string plain(const Object& object);

  std::map<const Object*, int> counts_;
  std::map<const Object*, std::size_t> numbers_;
};

inline std::string GraphText::plain(const Object& object) {
  using namespace detail;
  if (const auto* list = object.get<ObjectList>()) return items_text("[", list->items, "]");
  if (const auto* tuple = object.get<ObjectTuple>()) {
    return (tuple->is_size ? "Size" : "") + items_text("(", tuple->items, tuple->items.size() == 1 ? ",)" : ")");
  }
  if (const auto* set = object.get<ObjectSet>())
    return items_text(set->frozen ? "frozenset{" : "set{", set->items, "}");
  if (const auto* dict = object.get<ObjectDict>()) {
    const char* names[] = {"", "odict", "counter"};
    const std::string attributes = dict->attributes == nullptr ? "" : "+" + text(*dict->attributes);
    return names[static_cast<int>(dict->type)] + dict_text(dict->items) + attributes;
  }
  if (const auto* opaque = object.get<ObjectOpaque>()) {
    const char* makes[] = {"", "new ", "new_ex "};
    std::string all = makes[static_cast<int>(opaque->make)] + text(*opaque->callable) + text(*opaque->args);
    if (opaque->kwargs != nullptr) all += "**" + text(*opaque->kwargs);
    if (!opaque->items.empty()) all += items_text("+[", opaque->items, "]");
    if (!opaque->added.empty()) all += items_text("+set{", opaque->added, "}");
    if (!opaque->entries.empty()) all += "+" + dict_text(opaque->entries);
    if (opaque->state != nullptr) all += "<-" + text(*opaque->state);
    return all;
  }
  if (const auto* bytes = object.get<ObjectByteArray>()) return "bytearray'" + bytes->octets + "'";
  if (const auto* integer = object.get<ObjectBigInt>()) {
    std::string all = "bigint";
    for (const unsigned char byte : integer->twos_complement) all += "." + std::to_string(byte);
    return all;
  }
  if (const auto* value = object.get<std::complex<double>>()) {
    return "complex(" + std::to_string(value->real()) + ", " + std::to_string(value->imag()) + ")";
  }
  if (const auto* device = object.get<ObjectDevice>()) return "device(" + device->name + ")";
  if (object.is<ObjectTensor>() || object.is<ObjectStorage>()) return describe_object(object);
  // The short form of keys is Python's.
  const std::string step = path_step("", object);
  return step.substr(1, step.size() - 2);
}

inline std::string text_of(const std::string& bytes, detail::PickleDialect dialect = detail::PickleDialect::python) {
  const detail::ObjectGraph graph = read_graph(bytes, dialect);
  return GraphText{}(*graph.root);
}

// The message of the error that reading ends with; empty if it does not.
inline std::string error_of(const std::string& bytes, detail::PickleDialect dialect = detail::PickleDialect::python) {
  try {
    read_graph(bytes, dialect);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace ckptio::test
