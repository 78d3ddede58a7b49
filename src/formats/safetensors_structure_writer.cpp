// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors_structure.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "codec/json_text.h"
#include "codec/safetensors_header.h"
#include "codec/zip_directory.h"
#include "hash/hash_table.h"
#include "value/dtype_name.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

std::string to_hex(std::string_view octets) {
  std::string text;
  for (const unsigned char octet : octets) {
    text += kHexDigits[octet >> 4];
    text += kHexDigits[octet & 15];
  }
  return text;
}

std::string tagged(std::string_view tag, const std::string& json) {
  return "{\"" + std::string(tag) + "\":" + json + "}";
}

std::string float_text(double value) {
  if (std::isfinite(value)) return json_number(value);
  return tagged("$float", std::isnan(value) ? "\"nan\"" : value > 0 ? "\"inf\"" : "\"-inf\"");
}

void append_tagged(std::string& out, std::string_view tag, std::string_view text) {
  out.append("{\"").append(tag).append("\":");
  append_json_quoted(out, text);
  out += '}';
}

template <class Numbers>
std::string list_text(const Numbers& numbers) {
  std::string text;
  for (const std::int64_t number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return "[" + text + "]";
}

void append_view(std::string& out, const ViewOf& view) {
  if (view.is_same) return append_tagged(out, "$tensor", view.name);
  out += tagged("$view", "[" + json_quote(view.name) + "," + json_quote(dtype_name(view.dtype)) + "," +
                             std::to_string(view.offset) + "," + list_text(view.sizes) + "," + list_text(view.strides) +
                             "]");
}

// What keeps a tensor out of the format, or "".
std::string why_not(const at::Tensor& tensor) {
  if (tensor.is_meta()) return "a tensor without data (meta)";
  if (tensor.is_nested()) return "a nested tensor";
  if (tensor.is_quantized()) return "a quantized tensor";
  if (tensor.layout() != c10::kStrided) return "a sparse tensor";
  if (!has_plain_storage(tensor)) return "a tensor without memory of its own";
  if (const std::string why = why_no_memory(tensor); !why.empty()) return why;
  const auto dtype = static_cast<DType>(tensor.scalar_type());
  if (!safetensors_dtype_name(dtype)) return "a tensor of dtype " + dtype_name(tensor.scalar_type());
  if (dtype == DType::float4_e2m1fn_x2 && tensor.dim() == 0) return "a float4_e2m1fn_x2 tensor of no dimensions";
  return "";
}

// At least the values in a JSON text: each stands behind a bracket, a brace or a comma.
std::size_t count_values(std::string_view json) {
  std::size_t n_values = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (json[i] == '"') in_string = !in_string;
    if (in_string && json[i] == '\\') ++i;
    if (!in_string && (json[i] == ',' || json[i] == '[' || json[i] == '{')) ++n_values;
  }
  return n_values;
}

std::string join(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : "; ") + item;
  return text;
}

}  // namespace

std::string child_name(const std::string& name, const std::string& key) {
  if (name.empty()) return key;
  std::string child;
  child.reserve(name.size() + 1 + key.size());
  return child.append(name).append(".").append(key);
}

void Problems::raise(const std::string& path) const {
  std::vector<std::string> all = of_type;
  all.insert(all.end(), of_value.begin(), of_value.end());
  if (all.empty()) return;
  const std::string message = "cannot save '" + path + "': a safetensors file cannot hold " + join(all);
  if (of_type.empty()) throw ValueError(message);
  throw TypeError(message);
}

// Goes through the tree once. At a tensor the text is broken off, to be put in later.
class StructureDraft::Writer {
 public:
  Writer(StructureDraft& draft, PlainValues plain_values, Problems& problems)
      : draft_(draft), plain_values_(plain_values), problems_(problems) {}

  void write(const Checkpoint& checkpoint) {
    text_ = "{\"version\":" + std::to_string(kStructureVersion) + ",\"checkpoint\":";
    for (const auto& [key, value] : checkpoint) {
      draft_.is_flat_ = draft_.is_flat_ && key.is<std::string>() && value.is<at::Tensor>();
    }
    typed_dict(checkpoint, "", nullptr);
    draft_.pieces_.push_back(text_ + "}");
  }

 private:
  void item(const Value& value, const std::string& name) {
    if (const auto* tensor = value.get_if<at::Tensor>()) return this->tensor(*tensor, name, value);
    if (const auto* entries = value.get_if<Dict>()) return typed_dict(*entries, name, &value);
    if (const auto* items = value.get_if<List>()) return sequence(*items, name, value);
    const auto* tuple = value.get_if<Tuple>();
    if (tuple != nullptr && !tuple->is_size()) return in_tag("$tuple", [&] { sequence(*tuple, name, value); });
    if (plain_values_ == PlainValues::refuse) return refuse(value, "is " + std::string(value.type_name()));
    if (tuple != nullptr) return in_tag("$size", [&] { sequence(*tuple, name, value); });
    if (const auto* set = value.get_if<Set>()) {
      return in_tag(set->is_frozen() ? "$frozenset" : "$set", [&] { sequence(*set, name, value); });
    }
    if (const auto* text = value.get_if<std::string>()) return string(*text, value);
    text_ += plain_text(value);
  }

  // Of values that are neither tensors, text nor containers.
  std::string plain_text(const Value& value) {
    if (value.is_null()) return "null";
    if (const auto* held = value.get_if<bool>()) return *held ? "true" : "false";
    if (const auto* held = value.get_if<std::int64_t>()) return std::to_string(*held);
    if (const auto* held = value.get_if<double>()) return float_text(*held);
    if (const auto* held = value.get_if<std::complex<double>>()) {
      return tagged("$complex", "[" + float_text(held->real()) + "," + float_text(held->imag()) + "]");
    }
    if (const auto* held = value.get_if<Bytes>()) return tagged("$bytes", json_quote(to_hex(held->view())));
    if (const auto* held = value.get_if<ByteArray>()) return tagged("$bytearray", json_quote(to_hex(held->view())));
    if (const auto* held = value.get_if<BigInt>()) return big_int(*held, value);
    if (const auto* held = value.get_if<c10::ScalarType>()) return tagged("$dtype", json_quote(dtype_name(*held)));
    if (const auto* held = value.get_if<c10::Device>()) return tagged("$device", json_quote(held->str()));
    const auto* opaque = value.get_if<Opaque>();
    refuse(value, opaque != nullptr ? "an object of " + opaque->class_name() : "is " + std::string(value.type_name()));
    return "null";
  }

  std::string big_int(const BigInt& number, const Value& value) {
    if (number.twos_complement().size() > kMaxIntegerBytes) {
      problems_.of_value.push_back(value.path() + " (an integer of more than " + std::to_string(8 * kMaxIntegerBytes) +
                                   " bits)");
      return "null";
    }
    return tagged("$int", json_quote(number.to_string()));
  }

  void string(const std::string& text, const Value& value) {
    try {
      append_json_quoted(text_, text);
    } catch (const ValueError&) {
      problems_.of_value.push_back(value.path() + " (text that is not UTF-8)");
    }
  }

  void tensor(const at::Tensor& tensor, const std::string& wanted_name, const Value& value) {
    if (!tensor.defined()) {
      if (plain_values_ == PlainValues::refuse) return refuse(value, "an undefined tensor");
      draft_.is_flat_ = false;
      text_ += tagged("$tensor", "null");
      return;
    }
    if (const std::string why = why_not(tensor); !why.empty()) return refuse(value, why);
    std::string name = wanted_name;
    for (int number = 2; !add(name, tensor, value); ++number) name = wanted_name + "#" + std::to_string(number);
    draft_.is_flat_ = draft_.is_flat_ && name == wanted_name;
    break_off({draft_.tensors_.size() - 1, draft_.tensors_.size()});
  }

  void break_off(Part part) {
    draft_.parts_.push_back(std::move(part));
    draft_.pieces_.push_back(std::move(text_));
    text_.clear();
  }

  template <class Items>
  void sequence(const Items& items, const std::string& name, const Value& value) {
    if (!enter(&value)) return;
    text_ += "[";
    std::int64_t index = 0;
    for (const Value& held : items) {
      if (index > 0) text_ += ",";
      item(held, child_name(name, std::to_string(index++)));
    }
    text_ += "]";
    --depth_;
  }

  // `value`: that holds the Dict; null for the checkpoint.
  void typed_dict(const Dict& entries, const std::string& name, const Value* value) {
    if (entries.type() == ckptio::DictType::dict) return dict(entries, name, value);
    in_tag(entries.type() == ckptio::DictType::counter ? "$counter" : "$ordered_dict", [&] {
      text_ += "[";
      dict(entries, name, value);
      text_ += ",";
      // Versions of modules, and the like: not what those who refuse plain values mean.
      if (plain_values_ == PlainValues::refuse) {
        text_ += "{}";
      } else {
        typed_dict(entries.attributes(), child_name(name, "__dict__"), value);
      }
      text_ += "]";
    });
  }

  void dict(const Dict& entries, const std::string& name, const Value* value) {
    if (!enter(value)) return;
    bool is_object = true;
    for (const auto& [key, held] : entries) {
      const auto* text = key.get_if<std::string>();
      is_object = is_object && text != nullptr && !text->starts_with('$');
    }
    const bool is_done = is_object && tensors(entries, name);
    if (!is_done) is_object ? object(entries, name, value) : in_tag("$dict", [&] { pairs(entries, name, value); });
    --depth_;
  }

  // Of a dict of tensors alone, whose keys are ASCII and whose names are free. False: it is none, and nothing was
  // written.
  bool tensors(const Dict& entries, const std::string& name) {
    const std::size_t first = draft_.tensors_.size();
    const auto is_right = [&](const auto& entry) {
      const auto* tensor = entry.second.template get_if<at::Tensor>();
      if (tensor == nullptr || !tensor->defined() || !why_not(*tensor).empty()) return false;
      const std::string& key = entry.first.template as<std::string>();
      const bool is_ascii = std::none_of(key.begin(), key.end(), [](char c) { return (c & 0x80) != 0; });
      return is_ascii && add(child_name(name, key), *tensor, entry.second);
    };
    if (entries.empty() || !std::all_of(entries.begin(), entries.end(), is_right)) {
      while (draft_.tensors_.size() > first) remove_last();
      return false;
    }
    break_off({first, draft_.tensors_.size(), name});
    return true;
  }

  void object(const Dict& entries, const std::string& name, const Value* value) {
    text_ += "{";
    bool is_first = true;
    for (const auto& [key, held] : entries) {
      if (!is_first) text_ += ",";
      is_first = false;
      this->key(key, value);
      text_ += ":";
      item(held, child_name(name, key.as<std::string>()));
    }
    text_ += "}";
  }

  void pairs(const Dict& entries, const std::string& name, const Value* value) {
    text_ += "[";
    bool is_first = true;
    for (const auto& [key, held] : entries) {
      text_ += is_first ? "[" : ",[";
      is_first = false;
      this->key(key, value);
      text_ += ",";
      item(held, child_name(name, key.is<std::string>() ? key.as<std::string>() : to_string(key)));
      text_ += "]";
    }
    text_ += "]";
  }

  // Keys hold no tensors, and stand in no container of the tree: problems are told of the Dict. `value`: that holds it.
  void key(const Value& key, const Value* value) {
    Problems problems;
    std::swap(problems, problems_);
    const PlainValues plain_values = std::exchange(plain_values_, PlainValues::metadata);
    item(key, "");
    plain_values_ = plain_values;
    std::swap(problems, problems_);
    if (problems.of_type.empty() && problems.of_value.empty()) return;
    const std::string place = value == nullptr ? "checkpoint" : value->path();
    const std::string text = place + " (its key " + quote_name(to_string(key)) + ")";
    if (!problems.of_type.empty()) problems_.of_type.push_back(text);
    if (!problems.of_value.empty()) problems_.of_value.push_back(text);
  }

  template <class Body>
  void in_tag(std::string_view tag, Body body) {
    text_ += "{\"" + std::string(tag) + "\":";
    body();
    text_ += "}";
  }

  bool enter(const Value* value) {
    if (depth_ < kMaxStructureDepth) return ++depth_, true;
    problems_.of_value.push_back((value == nullptr ? "checkpoint" : value->path()) + " (nested deeper than " +
                                 std::to_string(kMaxStructureDepth) + " levels)");
    return false;
  }

  void refuse(const Value& value, const std::string& why) {
    problems_.of_type.push_back(value.path() + " (" + why + ")");
  }

  // False, and nothing was done, if the name is not free.
  bool add(const std::string& name, const at::Tensor& tensor, const Value& value) {
    if (name == kSafetensorsMetadataKey) return false;
    const auto number = static_cast<std::uint32_t>(draft_.tensors_.size());
    const auto is_it = [&](std::uint32_t i) { return draft_.tensors_[i].name == name; };
    if (names_.find_or_add(hash_of(name), number, is_it) != nullptr) return false;
    draft_.tensors_.push_back({name, tensor, &value});
    return true;
  }

  void remove_last() {
    const auto last = static_cast<std::uint32_t>(draft_.tensors_.size() - 1);
    names_.erase(names_.find(hash_of(draft_.tensors_[last].name), [last](std::uint32_t i) { return i == last; }));
    draft_.tensors_.pop_back();
  }

  StructureDraft& draft_;
  PlainValues plain_values_;
  Problems& problems_;
  HashTable<std::uint32_t> names_;  // into draft_.tensors_
  std::string text_;
  std::size_t depth_ = 0;
};

StructureDraft::StructureDraft(const Checkpoint& checkpoint, PlainValues plain_values, Problems& problems) {
  Writer(*this, plain_values, problems).write(checkpoint);
}

std::string StructureDraft::text(const std::vector<ViewOf>& views) const {
  std::string text = pieces_.front();
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    append(text, parts_[i], views);
    text += pieces_[i + 1];
  }
  if (text.size() > kMaxStructureValues && count_values(text) > kMaxStructureValues) {
    throw ValueError("more values beside the tensors than a safetensors file's metadata should hold (" +
                     std::to_string(kMaxStructureValues) + ")");
  }
  return text;
}

void StructureDraft::append(std::string& out, const Part& part, const std::vector<ViewOf>& views) const {
  if (!part.dict) return append_view(out, views[part.first]);
  const auto append_keys = [&](const auto& append_more) {
    for (std::size_t i = part.first; i < part.last; ++i) {
      if (i > part.first) out += ',';
      append_json_quoted(out,
                         std::string_view(tensors_[i].name).substr(part.dict->empty() ? 0 : part.dict->size() + 1));
      append_more(views[i]);
    }
  };
  bool have_own_names = true;
  for (std::size_t i = part.first; i < part.last; ++i) {
    have_own_names = have_own_names && views[i].is_same && views[i].name == tensors_[i].name;
  }
  if (have_own_names) {
    out += "{\"$tensors\":[";
    append_json_quoted(out, *part.dict);
    out += ",[";
    append_keys([](const ViewOf&) {});
    out += "]]}";
  } else {
    out += '{';
    append_keys([&](const ViewOf& view) { append_view(out += ':', view); });
    out += '}';
  }
}

}  // namespace ckptio::detail
