// SPDX-License-Identifier: Apache-2.0
#include "codec/object.h"

#include <array>
#include <charconv>

#include "codec/limits.h"

namespace ckptio::detail {
namespace {

// Texts in paths are cut here: keys may be long, and there may be many.
constexpr std::size_t kMaxKeyBytes = 60;

void append_hex(std::string& out, unsigned value, int n_digits) {
  while (n_digits-- > 0) out += "0123456789abcdef"[value >> 4 * n_digits & 15];
}

// Python's way to write a string; the result is UTF-8 and one line. `is_text`: UTF-8 that may hold lone surrogates.
std::string quoted(std::string_view text, bool is_text) {
  std::string_view shown = text.substr(0, kMaxKeyBytes);
  // Not within a character.
  while (is_text && shown.size() < text.size() && !shown.empty() && (text[shown.size()] & 0xC0) == 0x80) {
    shown.remove_suffix(1);
  }
  std::string out = "'";
  for (std::size_t i = 0; i < shown.size(); ++i) {
    const auto byte = static_cast<unsigned char>(shown[i]);
    const auto next = [&](std::size_t n) { return static_cast<unsigned>(static_cast<unsigned char>(shown[i + n])); };
    if (byte == '\'' || byte == '\\') {
      out += '\\';
      out += shown[i];
    } else if (byte == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7F || (byte >= 0x80 && !is_text)) {
      append_hex(out += "\\x", byte, 2);
    } else if (byte == 0xED && next(1) >= 0xA0) {
      append_hex(out += "\\u", 0xD000 | (next(1) & 0x3F) << 6 | (next(2) & 0x3F), 4);
      i += 2;
    } else {
      out += shown[i];
    }
  }
  return out + (shown.size() < text.size() ? "...'" : "'");
}

std::string number_text(double value) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  std::string text(digits.data(), end);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

// A key in a few characters. Of a tuple's items only those that are no containers themselves are shown.
std::string key_text(const Object& key, bool within) {
  if (const auto* text = key.get<ObjectString>()) return quoted(text->utf8, true);
  if (const auto* text = key.get<ObjectBytes>()) return "b" + quoted(text->octets, false);
  if (const auto* value = key.get<std::int64_t>()) return std::to_string(*value);
  if (const auto* value = key.get<bool>()) return *value ? "True" : "False";
  if (const auto* value = key.get<double>()) return number_text(*value);
  if (key.is<ObjectNone>()) return "None";
  if (const auto* dtype = key.get<DType>()) return "torch." + std::string(dtype_name_of(*dtype));
  if (const auto* global = key.get<ObjectGlobal>()) return global->module + "." + global->name;
  const auto* tuple = key.get<ObjectTuple>();
  if (tuple == nullptr || within) return "...";
  std::string text = "(";
  for (std::size_t i = 0; i < tuple->items.size(); ++i) {
    if (i == 4) return text + ", ...)";
    text += (i > 0 ? ", " : "") + key_text(*tuple->items[i], true);
  }
  return text + (tuple->items.size() == 1 ? ",)" : ")");
}

struct DescribeType {
  std::string operator()(ObjectNone) const { return "None"; }
  std::string operator()(bool value) const { return value ? "True" : "False"; }
  std::string operator()(std::int64_t value) const { return "the integer " + std::to_string(value); }
  std::string operator()(const ObjectBigInt&) const { return "a big integer"; }
  std::string operator()(double value) const { return "the number " + number_text(value); }
  std::string operator()(std::complex<double>) const { return "a complex number"; }
  std::string operator()(const ObjectString& text) const { return "the string " + quoted(text.utf8, true); }
  std::string operator()(const ObjectBytes&) const { return "bytes"; }
  std::string operator()(const ObjectByteArray&) const { return "a bytearray"; }
  std::string operator()(const ObjectList&) const { return "a list"; }
  std::string operator()(const ObjectTuple& tuple) const { return tuple.is_size ? "a torch.Size" : "a tuple"; }
  std::string operator()(const ObjectDict&) const { return "a dict"; }
  std::string operator()(const ObjectSet& set) const { return set.frozen ? "a frozenset" : "a set"; }
  std::string operator()(DType dtype) const { return "the dtype torch." + std::string(dtype_name_of(dtype)); }
  std::string operator()(const ObjectDevice&) const { return "a device"; }
  std::string operator()(LayoutKind) const { return "a layout"; }
  std::string operator()(QSchemeKind) const { return "a quantization scheme"; }
  std::string operator()(const ObjectStorage&) const { return "a storage"; }
  std::string operator()(const ObjectTensor*) const { return "a tensor"; }
  std::string operator()(const ObjectGlobal& global) const {
    return "the global " + quoted(global.module + "." + global.name, true);
  }
  std::string operator()(const std::unique_ptr<ObjectOpaque>&) const { return "an object of an unknown type"; }
};

const Object* pick(std::initializer_list<const Object*> objects, std::size_t index) { return objects.begin()[index]; }

const Object* opaque_child(const ObjectOpaque& opaque, std::size_t i) {
  if (i < 3) return pick({opaque.callable, opaque.args, opaque.kwargs}, i);
  i -= 3;
  if (i < opaque.items.size()) return opaque.items[i];
  i -= opaque.items.size();
  if (i < opaque.added.size()) return opaque.added[i];
  i -= opaque.added.size();
  if (i < 2 * opaque.entries.size()) return i % 2 == 0 ? opaque.entries[i / 2].first : opaque.entries[i / 2].second;
  return opaque.state;
}

}  // namespace

std::size_t n_children(const Object& object) {
  if (const auto* list = object.get<ObjectList>()) return list->items.size();
  if (const auto* tuple = object.get<ObjectTuple>()) return tuple->items.size();
  if (const auto* dict = object.get<ObjectDict>()) return 2 * dict->items.size() + (dict->attributes != nullptr);
  if (const auto* set = object.get<ObjectSet>()) return set->items.size();
  if (const auto* tensor = object.get<ObjectTensor>()) {
    const bool has_more = tensor->attributes != nullptr || tensor->backward_hooks != nullptr;
    return tensor->parts.size() + (has_more ? 2 : 0);
  }
  if (const auto* opaque = object.get<ObjectOpaque>()) {
    return 4 + opaque->items.size() + opaque->added.size() + 2 * opaque->entries.size();
  }
  return 0;
}

const Object* child(const Object& object, std::size_t i) {
  if (const auto* list = object.get<ObjectList>()) return list->items[i];
  if (const auto* tuple = object.get<ObjectTuple>()) return tuple->items[i];
  if (const auto* set = object.get<ObjectSet>()) return set->items[i];
  if (const auto* opaque = object.get<ObjectOpaque>()) return opaque_child(*opaque, i);
  if (const auto* dict = object.get<ObjectDict>()) {
    if (i == 2 * dict->items.size()) return dict->attributes;
    return i % 2 == 0 ? dict->items[i / 2].first : dict->items[i / 2].second;
  }
  const auto* tensor = object.get<ObjectTensor>();
  if (i < tensor->parts.size()) return tensor->parts[i];
  return i == tensor->parts.size() ? tensor->attributes : tensor->backward_hooks;
}

std::string describe_object(const Object& object) { return std::visit(DescribeType{}, object.held); }

std::string path_step(const std::string& path, const Object& key) { return path + "[" + key_text(key, false) + "]"; }

std::string global_name(const Object& object) {
  const Object* at = &object;
  // A chain of calls may be as deep as the file likes, and even a circle.
  for (std::uint32_t depth = 0; depth < kMaxDepth && at != nullptr; ++depth) {
    if (const auto* global = at->get<ObjectGlobal>()) return global->module + "." + global->name;
    const auto* opaque = at->get<ObjectOpaque>();
    if (opaque == nullptr) break;
    at = opaque->callable;
  }
  return "?";
}

}  // namespace ckptio::detail
