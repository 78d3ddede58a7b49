// SPDX-License-Identifier: Apache-2.0
// Which keys of a dict and items of a set Python takes for equal. By value: None, numbers (1, 1.0, True and 1+0j are
// one key), strings, bytes, tuples, frozensets, dtypes, layouts, devices, globals. By identity: all else that has a
// hash (tensors, storages, NaN, objects of unknown types). Lists, dicts, sets and bytearrays have none.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "codec/graph_builder.h"

namespace ckptio::detail {
namespace {

// Memory of a key in its trees and tables.
constexpr std::uint64_t kKeyBytes = 96;
constexpr std::uint64_t kPositionBytes = 48;

// Longer keys are remembered by their objects, too.
constexpr std::size_t kShortKeyBytes = 128;

// A byte string that is the same for equal numbers: "i" and the integer in two's complement, or "d" and the bits.
std::string content_of_integer(std::string twos_complement) { return "i" + std::move(twos_complement); }

std::string content_of(std::int64_t value) {
  std::string digits;
  for (int shift = 0; shift < 64; shift += 8) digits += static_cast<char>(static_cast<std::uint64_t>(value) >> shift);
  const auto sign = [](char byte) { return (byte & 0x80) != 0 ? '\xFF' : '\0'; };
  while (digits.size() > 1 && digits.back() == sign(digits[digits.size() - 2])) digits.pop_back();
  return content_of_integer(std::move(digits));
}

std::string bits_of(double value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

// An integer outside int64 that a double is: its 53 bits, shifted.
std::string content_of_large(double value) {
  int exponent = 0;
  const auto mantissa = static_cast<std::int64_t>(std::ldexp(std::frexp(value, &exponent), 53));
  const int shift = exponent - 53;  // above 0: |value| >= 2^63
  std::string digits(static_cast<std::size_t>(shift / 8), '\0');
  // 53 bits, a shift of up to 7 and the sign fit in 64.
  const std::string high = content_of(mantissa * (std::int64_t{1} << shift % 8)).substr(1);
  return content_of_integer(digits + high);
}

// Requires: not NaN.
std::string content_of(double value) {
  if (std::isinf(value) || value != std::trunc(value)) return "d" + bits_of(value);
  if (value >= -0x1p63 && value < 0x1p63) return content_of(static_cast<std::int64_t>(value));
  return content_of_large(value);
}

// What makes an object equal to another of its type, or empty: only itself.
struct LeafContent {
  std::string operator()(ObjectNone) const { return "n"; }
  std::string operator()(bool value) const { return content_of(std::int64_t{value}); }
  std::string operator()(std::int64_t value) const { return content_of(value); }
  std::string operator()(const ObjectBigInt& value) const { return content_of_integer(value.twos_complement); }
  std::string operator()(double value) const { return std::isnan(value) ? "" : content_of(value); }
  std::string operator()(std::complex<double> value) const {
    if (std::isnan(value.real()) || std::isnan(value.imag())) return "";
    if (value.imag() == 0) return content_of(value.real());
    return "c" + bits_of(value.real() + 0.0) + bits_of(value.imag());  // + 0.0: -0.0 is equal to it
  }
  std::string operator()(const ObjectBytes& value) const { return "b" + value.octets; }
  std::string operator()(DType value) const { return {'T', static_cast<char>(value)}; }
  std::string operator()(LayoutKind value) const { return {'L', static_cast<char>(value)}; }
  std::string operator()(QSchemeKind value) const { return {'Q', static_cast<char>(value)}; }
  std::string operator()(const ObjectDevice& value) const { return "D" + value.name; }
  std::string operator()(const ObjectGlobal& value) const { return "G" + value.module + '\0' + value.name; }
  template <class T>
  std::string operator()(const T&) const {
    return "";
  }
};

// The items that a key's number is made of, or null for a leaf.
const std::vector<Object*>* parts_of(const Object& key) {
  if (const auto* tuple = key.get<ObjectTuple>()) return &tuple->items;
  if (const auto* set = key.get<ObjectSet>(); set != nullptr && set->frozen) return &set->items;
  return nullptr;
}

std::size_t content_bytes(const Object& key) {
  if (const auto* text = key.get<ObjectString>()) return text->utf8.size();
  if (const auto* bytes = key.get<ObjectBytes>()) return bytes->octets.size();
  if (const auto* integer = key.get<ObjectBigInt>()) return integer->twos_complement.size();
  if (const auto* global = key.get<ObjectGlobal>()) return global->module.size() + global->name.size();
  return 0;
}

bool is_unhashable(const Object& key) {
  const auto* set = key.get<ObjectSet>();
  return key.is<ObjectList>() || key.is<ObjectDict>() || key.is<ObjectByteArray>() || (set != nullptr && !set->frozen);
}

}  // namespace

std::uint32_t GraphBuilder::key_id_of(std::string content) {
  const auto [place, is_new] = ids_of_contents_.try_emplace(std::move(content), n_key_ids_);
  if (is_new) {
    charge(kKeyBytes + place->first.size());
    ++n_key_ids_;
  }
  return place->second;
}

std::uint32_t GraphBuilder::key_id_of_string(std::string_view text) {
  const std::uint32_t* known =
      string_keys_by_text_.find_or_add(hash_of(text), static_cast<std::uint32_t>(string_keys_.size()),
                                       [&](std::uint32_t i) { return string_keys_[i].text == text; });
  if (known != nullptr) return string_keys_[*known].id;
  charge(kKeyBytes);
  string_keys_.push_back({text, n_key_ids_});
  return n_key_ids_++;
}

std::uint32_t GraphBuilder::key_id_of_object(const Object* key, std::uint32_t id) {
  const auto [place, is_new] = ids_of_objects_.try_emplace(key, id);
  if (is_new) charge(kKeyBytes);
  return place->second;
}

std::uint32_t GraphBuilder::key_id_of_leaf(const Object* key) {
  if (is_unhashable(*key)) fail(describe_object(*key) + " found as a key, which Python could not hash");
  // A long text is compared once, however often it is a key.
  const bool is_long = content_bytes(*key) > kShortKeyBytes;
  if (is_long) {
    if (const auto place = ids_of_objects_.find(key); place != ids_of_objects_.end()) return place->second;
  }
  std::optional<std::uint32_t> id;
  if (const auto* string = key->get<ObjectString>()) {
    id = key_id_of_string(string->utf8);
  } else if (std::string content = std::visit(LeafContent{}, key->held); !content.empty()) {
    id = key_id_of(std::move(content));
  }
  if (id && !is_long) return *id;
  if (id) return key_id_of_object(key, *id);
  const std::uint32_t own = key_id_of_object(key, n_key_ids_);
  if (own == n_key_ids_) ++n_key_ids_;
  return own;
}

// Numbers the tuples and frozensets within `key` from the inside, each object once. They cannot hold themselves: only
// what is mutable can, and has no number.
std::uint32_t GraphBuilder::key_id(const Object* key) {
  const auto* string = key->get<ObjectString>();
  if (string != nullptr && string->utf8.size() <= kShortKeyBytes) return key_id_of_string(string->utf8);
  if (parts_of(*key) == nullptr) return key_id_of_leaf(key);
  struct Open {
    const Object* object;
    std::size_t n_done;
    std::string content;
  };
  std::vector<Open> open;
  const auto known_id = [&](const Object* object) -> std::optional<std::uint32_t> {
    if (parts_of(*object) == nullptr) return key_id_of_leaf(object);
    const auto place = ids_of_objects_.find(object);
    return place == ids_of_objects_.end() ? std::nullopt : std::optional(place->second);
  };
  if (const auto id = known_id(key)) return *id;
  open.push_back({key, 0, {}});
  while (true) {
    Open& top = open.back();
    const std::vector<Object*>& parts = *parts_of(*top.object);
    if (top.n_done < parts.size()) {
      const Object* part = parts[top.n_done];
      if (const auto id = known_id(part)) {
        top.content.append(reinterpret_cast<const char*>(&*id), sizeof *id);
        ++top.n_done;
      } else {
        charge(sizeof(Open));
        open.push_back({part, 0, {}});
      }
      continue;
    }
    std::string content = std::move(top.content);
    const bool is_set = top.object->is<ObjectSet>();
    if (is_set && !content.empty()) {  // in any order
      std::vector<std::uint32_t> ids(content.size() / sizeof(std::uint32_t));
      std::memcpy(ids.data(), content.data(), content.size());
      std::sort(ids.begin(), ids.end());
      std::memcpy(content.data(), ids.data(), content.size());
    }
    const std::uint32_t id = key_id_of((is_set ? "f" : "t") + content);
    key_id_of_object(top.object, id);
    open.pop_back();
    if (open.empty()) return id;
  }
}

// A container that was filled at once is not in the table; when more comes, it must be.
std::uint32_t GraphBuilder::index_items(const Object* container) {
  const auto [place, is_new] =
      container_numbers_.try_emplace(container, static_cast<std::uint32_t>(container_numbers_.size()));
  const std::uint32_t number = place->second;
  if (!is_new) return number;
  charge(kPositionBytes);
  std::uint32_t position = 0;
  if (const auto* dict = container->get<ObjectDict>()) {
    for (const auto& item : dict->items) find_place(number, item.first, position++);
  } else {
    for (const Object* item : container->get<ObjectSet>()->items) find_place(number, item, position++);
  }
  return number;
}

// Of an equal key that is there, or `position`, where it is from now on.
std::pair<std::uint32_t, bool> GraphBuilder::find_place(std::uint32_t container, const Object* key,
                                                        std::uint32_t position) {
  const std::uint64_t wanted = std::uint64_t{container} << 32 | key_id(key);
  const std::uint32_t* known =
      places_by_key_.find_or_add(hash_of(wanted), static_cast<std::uint32_t>(places_.size()),
                                 [&](std::uint32_t i) { return places_[i].container_and_key == wanted; });
  if (known != nullptr) return {places_[*known].position, false};
  charge(kPositionBytes);
  places_.push_back({wanted, position});
  return {position, true};
}

// Whether no key is equal to another one, nor to one that the dict has, which was filled in this way up to now.
bool GraphBuilder::all_differ(const Object* dict, const std::vector<Object*>& keys_and_values) {
  std::vector<std::uint32_t> ids;
  ids.reserve(keys_and_values.size() / 2);
  for (std::size_t i = 0; i < keys_and_values.size(); i += 2) ids.push_back(key_id(keys_and_values[i]));
  // New ones count up.
  if (std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) != ids.end()) {
    std::sort(ids.begin(), ids.end());
    if (std::adjacent_find(ids.begin(), ids.end()) != ids.end()) return false;
  }
  const bool is_first = dict->get<ObjectDict>()->items.empty();
  if (ids.empty() || (!is_first && (filled_.dict != dict || ids.front() <= filled_.last_id))) return is_first;
  filled_ = {dict, ids.back()};
  return true;
}

// Most dicts get all their items at once or, as picklers write large ones, batch after batch, and none twice: those
// need no place in the table.
void GraphBuilder::set_items(Object* dict, const std::vector<Object*>& keys_and_values) {
  auto& to = *dict->get<ObjectDict>();
  const bool may_be_new = to.items.empty() || filled_.dict == dict;
  if (may_be_new && container_numbers_.count(dict) == 0 && all_differ(dict, keys_and_values)) {
    charge_items(keys_and_values.size());
    if (to.items.empty()) to.items.reserve(keys_and_values.size() / 2);
    for (std::size_t i = 0; i < keys_and_values.size(); i += 2) {
      to.items.emplace_back(keys_and_values[i], keys_and_values[i + 1]);
    }
  } else if (!keys_and_values.empty()) {
    const std::uint32_t number = index_items(dict);
    for (std::size_t i = 0; i < keys_and_values.size(); i += 2) {
      set_numbered_item(number, to, keys_and_values[i], keys_and_values[i + 1]);
    }
  }
}

void GraphBuilder::set_item(Object* dict, Object* key, Object* value) {
  set_numbered_item(index_items(dict), *dict->get<ObjectDict>(), key, value);
}

void GraphBuilder::set_numbered_item(std::uint32_t dict_number, ObjectDict& dict, Object* key, Object* value) {
  const auto [position, is_new] = find_place(dict_number, key, static_cast<std::uint32_t>(dict.items.size()));
  if (is_new) {
    charge_items(2);
    dict.items.emplace_back(key, value);
  } else {
    dict.items[position].second = value;
  }
}

void GraphBuilder::add_item(Object* set, Object* item) {
  auto& items = set->get<ObjectSet>()->items;
  if (!find_place(index_items(set), item, static_cast<std::uint32_t>(items.size())).second) return;
  charge_items(1);
  items.push_back(item);
}

}  // namespace ckptio::detail
