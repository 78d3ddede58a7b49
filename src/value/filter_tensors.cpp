// SPDX-License-Identifier: Apache-2.0
#include "value/filter_tensors.h"

#include <string_view>
#include <unordered_map>
#include <utility>

#include "hash/hash_table.h"
#include "value/nodes.h"

namespace ckptio::detail {

namespace {

class Filter {
 public:
  explicit Filter(const std::function<bool(const std::string&)>& wanted) : wanted_(wanted) {}

  // False: `value` is to go.
  bool visit(Value& value, const std::string& name) {
    if (value.is<at::Tensor>() || value.is<TypedStorage>()) return wanted_(name);
    if (value.is<Dict>()) {
      visit_dict(value.mutable_as<Dict>(), name);
    } else if (value.is<List>()) {
      visit_items(value.mutable_as<List>(), name);
    } else if (value.is<Tuple>() && !value.as<Tuple>().is_size()) {
      List items(value.as<Tuple>().begin(), value.as<Tuple>().end());
      visit_items(items, name);
      value = Tuple(items.begin(), items.end());
    }
    return true;
  }

 private:
  static std::string join(const std::string& name, const std::string& key) {
    return name.empty() ? key : name + "." + key;
  }

  void visit_dict(Dict& dict, const std::string& name) {
    if (dict.empty()) return;
    ValueAccess::materialize(dict).erase_if([&](Dict::value_type& item) {
      const std::string* text = item.first.get_if<std::string>();
      return !visit(item.second, join(name, text != nullptr ? *text : to_string(item.first)));
    });
  }

  void visit_items(List& items, const std::string& name) {
    std::size_t i = 0;
    for (Value& item : items) {
      if (!visit(item, join(name, std::to_string(i++)))) item = nullptr;
    }
  }

  const std::function<bool(const std::string&)>& wanted_;
};

}  // namespace

void filter_tensors(Value& checkpoint, const std::function<bool(const std::string&)>& filter) {
  Filter(filter).visit(checkpoint, "");
}

std::function<bool(const std::string& name)> asking_once(std::function<bool(const std::string& name)> filter) {
  // Names are a file's: no other hash than one that it cannot know.
  struct Hash {
    std::size_t operator()(const std::string& name) const { return hash_of(std::string_view(name)); }
  };
  return [filter = std::move(filter),
          answers = std::unordered_map<std::string, bool, Hash>()](const std::string& name) mutable {
    const auto [answer, is_new] = answers.try_emplace(name, false);
    if (is_new) answer->second = filter(name);
    return answer->second;
  };
}

}  // namespace ckptio::detail
