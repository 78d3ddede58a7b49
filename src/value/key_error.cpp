// SPDX-License-Identifier: Apache-2.0
// Dict::at and the help its error gives: the keys there are, near names first.
#include <algorithm>
#include <numeric>

#include "value/nodes.h"

namespace ckptio {

namespace {

// How many keys an error lists: enough to see the naming scheme, short enough for a terminal.
constexpr std::size_t kMaxKeysListed = 20;
// Names longer than this are compared by their first characters; state_dict names are far shorter.
constexpr std::size_t kMaxNameCompared = 200;

// Levenshtein's distance: how many characters must be inserted, deleted or replaced.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, kMaxNameCompared);
  b = b.substr(0, kMaxNameCompared);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j] ? 1 : 0);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, diagonal + 1, replaced});
    }
  }
  return row.back();
}

// The keys of `dict`, those most like `wanted` first, the others in their own order.
std::vector<std::pair<std::size_t, const Value*>> keys_by_nearness(const Dict& dict, const std::string& wanted) {
  const std::size_t near = std::max<std::size_t>(2, wanted.size() / 3);
  std::vector<std::pair<std::size_t, const Value*>> keys;
  for (const auto& [key, value] : dict) {
    const auto* name = key.get_if<std::string>();
    const std::size_t distance = name == nullptr ? near + 1 : edit_distance(wanted, *name);
    keys.emplace_back(std::min(distance, near + 1), &key);
  }
  std::stable_sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return keys;
}

std::string no_such_key(const Dict& dict, const Value& key) {
  std::string message = detail::path_of(detail::ValueAccess::node(dict)) + ": no key " + to_string(key);
  if (dict.empty()) return message + "; it is empty";
  const auto* wanted = key.get_if<std::string>();
  const std::string name = wanted == nullptr ? std::string() : *wanted;
  const auto keys = keys_by_nearness(dict, name);
  if (wanted != nullptr && keys.front().first <= std::max<std::size_t>(2, name.size() / 3)) {
    message += "; did you mean " + to_string(*keys.front().second) + "? keys: ";
  } else {
    message += "; keys: ";
  }
  for (std::size_t i = 0; i < std::min(keys.size(), kMaxKeysListed); ++i) {
    message += (i == 0 ? "" : ", ") + to_string(*keys[i].second);
  }
  if (keys.size() > kMaxKeysListed) message += ", ... (" + std::to_string(keys.size()) + " in all)";
  return message;
}

}  // namespace

const Value& Dict::at(const Value& key) const {
  const Value* found = find(key);
  if (found == nullptr) throw KeyError(no_such_key(*this, key));
  return *found;
}

Value& Dict::at(const Value& key) { return const_cast<Value&>(std::as_const(*this).at(key)); }

}  // namespace ckptio
