// SPDX-License-Identifier: Apache-2.0
#include "trainer/hparams_yaml.h"

#include <algorithm>
#include <cmath>

#include "ckptio/storage/local_storage.h"
#include "loggers/number_text.h"

namespace ckptio::detail {
namespace {

// A float that has no "." is a string for YAML 1.1.
std::string real(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  std::string text = number_text(value);
  if (text.find('.') == std::string::npos) text.insert(text.find('e'), ".0");
  return text;
}

// Text that no reader takes for anything else: it begins with a letter, and is none of YAML's words.
bool is_plain(const std::string& text) {
  static const char* const kWords[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  if (text.empty() || text.back() == ' ' || !std::isalpha(static_cast<unsigned char>(text[0]))) return false;
  const auto is_harmless = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.' || c == '/';
  };
  if (!std::ranges::all_of(text, is_harmless)) return false;
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::ranges::find(kWords, lower) == std::end(kWords);
}

std::string quoted(const std::string& text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (c == '\n') {
      result += "\\n";
    } else if (octet < 0x20 || octet == 0x7f) {
      result += {'\\', 'x', kDigits[octet >> 4], kDigits[octet & 15]};
    } else {
      result += c;
    }
  }
  return result + '"';
}

std::string text_of(const std::string& text) { return is_plain(text) ? text : quoted(text); }

std::string scalar(const Value& value) {
  if (value.is_null()) return "null";
  if (const auto* held = value.get_if<bool>()) return *held ? "true" : "false";
  if (const auto* held = value.get_if<double>()) return real(*held);
  if (const auto* held = value.get_if<std::string>()) return text_of(*held);
  if (value.is<std::int64_t>() || value.is<BigInt>()) return to_string(value);
  return text_of(to_string(value));
}

void print(std::string& out, const Value& value, std::size_t indent);

void print_items(std::string& out, const Sequence& items, std::size_t indent) {
  for (const Value& item : items) {
    out += "\n" + std::string(indent, ' ') + "-";
    print(out, item, indent + 2);
  }
}

void print_entries(std::string& out, const Dict& dict, std::size_t indent) {
  for (const auto& [key, value] : dict) {
    out += "\n" + std::string(indent, ' ') + scalar(key) + ":";
    print(out, value, indent + 2);
  }
}

// After "key:" or "-": the value on the same line, or its parts on lines of their own.
void print(std::string& out, const Value& value, std::size_t indent) {
  const Sequence* items = value.get_if<List>();
  if (items == nullptr) items = value.get_if<Tuple>();
  const Dict* dict = value.get_if<Dict>();
  if (items != nullptr && !items->empty()) {
    print_items(out, *items, indent);
  } else if (dict != nullptr && !dict->empty()) {
    print_entries(out, *dict, indent);
  } else {
    out += items != nullptr ? " []" : dict != nullptr ? " {}" : " " + scalar(value);
  }
}

}  // namespace

std::string to_yaml(const Dict& dict) {
  if (dict.empty()) return "{}\n";
  std::string text;
  print_entries(text, dict, 0);
  return text.substr(1) + "\n";
}

void write_yaml(const Dict& dict, const std::string& path) {
  const std::string text = to_yaml(dict);
  const auto file = LocalStorage({.durable = false}).create(path);
  file->append(text.data(), text.size());
  file->commit();
}

}  // namespace ckptio::detail
