// SPDX-License-Identifier: Apache-2.0
// state_dict and load_state_dict of modules: torch.nn.Module's (torch/nn/modules/module.py, 2.13.0).
#include <ATen/MemoryOverlap.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Type.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "ckptio/state.h"
#include "hash/hash_table.h"
#include "state/convert_dtypes.h"
#include "state/describe.h"
#include "state/prefetch.h"
#include "state/tensor_copier.h"
#include "value/tensor_storage.h"

namespace ckptio {
namespace {

using detail::HashTable;
using Named = std::pair<std::string, at::Tensor>;

using ModuleTensors = torch::OrderedDict<std::string, at::Tensor>;

// Where a module keeps its own: named_parameters() makes a copy with every name and an index of them, which takes
// longer than to read small tensors from a file.
struct Parameters : torch::nn::Module {
  static const ModuleTensors& of(const torch::nn::Module& module) { return module.*(&Parameters::parameters_); }
};

void append(const ModuleTensors& named, const std::string& prefix, std::vector<Named>& tensors) {
  const auto& items = named.items();
  for (std::size_t i = 0; i < items.size(); ++i) {
    detail::prefetch_ahead(
        i, items.size(), [&](std::size_t at) -> auto& { return items[at].value(); });
    if (items[i].value().defined()) tensors.emplace_back(prefix + items[i].key(), items[i].value());
  }
}

// LibTorch's own recursion orders tensors differently and drops a shared module's second name.
void collect(const torch::nn::Module& module, const std::string& prefix, std::vector<Named>& tensors) {
  append(Parameters::of(module), prefix, tensors);
  append(module.named_buffers(/*recurse=*/false), prefix, tensors);
  for (const auto& child : module.named_children()) collect(*child.value(), prefix + child.key() + ".", tensors);
}

std::vector<Named> collect(const torch::nn::Module& module) {
  std::vector<Named> tensors;
  collect(module, "", tensors);
  return tensors;
}

// Why `source` cannot be copied into `target`; empty where it can.
std::string why_not(const at::Tensor& target, const Value& value, bool convert_dtypes) {
  const at::Tensor* source = value.get_if<at::Tensor>();
  if (source == nullptr) return "Tensor expected, found " + std::string(value.type_name());
  if (!source->defined()) return "Tensor expected, found an undefined one";
  if (source->is_nested()) return "Tensor expected, found a nested one";
  std::string why;
  if (target.sizes() != source->sizes()) {
    why = "shape " + detail::shape_name(target.sizes()) + " expected, found " + detail::shape_name(source->sizes());
  }
  if (const std::string dtype = detail::why_not_dtype(target, *source, convert_dtypes); !dtype.empty()) {
    why += (why.empty() ? "" : "; ") + dtype;
  }
  if (!why.empty()) return why;
  if (source->is_meta() != target.is_meta()) {
    return source->is_meta() ? "found on the meta device, without data" : "the module's is on the meta device";
  }
  if (target.layout() != source->layout()) return "another layout (sparse, ...) than the module's";
  if (target.layout() == at::kStrided && at::has_internal_overlap(target) == at::MemOverlap::Yes) {
    return "the module's has elements that share memory";
  }
  if (target.is_cpu() && detail::has_plain_storage(target)) {
    if (const std::string missing = detail::why_no_memory(target); !missing.empty())
      return "the module's is " + missing;
  }
  if (target.is_inference() && !c10::InferenceMode::is_enabled()) return "the module's was made in inference mode";
  return "";
}

std::string class_name(const torch::nn::Module& module) {
  const std::string& name = module.name();
  return name.empty() ? "Module" : name;
}

std::vector<std::string> names(const std::vector<detail::Mismatches::Entry>& entries) {
  std::vector<std::string> result;
  for (const auto& entry : entries) result.push_back(entry.name);
  return result;
}

}  // namespace

Dict state_dict(const torch::nn::Module& module) {
  Dict state;
  for (const auto& [name, tensor] : collect(module)) state[name] = tensor.detach();
  return state;
}

void detail::plan_load(torch::nn::Module& module, const Dict& state, const std::string& prefix, LoadPlan& plan) {
  Mismatches& one_sided = plan.strict ? plan.mismatches : plan.skipped;
  std::vector<LoadPlan::TensorCopy> copies;
  copies.reserve(state.size());
  HashTable<const Value*> known;
  known.reserve(state.size());
  auto next = state.begin();  // mostly both are in one order
  const auto find = [&](const std::string& name) {
    const std::string* text = next == state.end() ? nullptr : next->first.get_if<std::string>();
    return text != nullptr && *text == name ? &(next++)->second : state.find(name);
  };
  std::vector<Named> tensors = collect(module);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    prefetch_ahead(
        i, tensors.size(), [&](std::size_t at) -> auto& { return tensors[at].second; });
    auto& [name, target] = tensors[i];
    const Value* value = find(name);
    const auto is_it = [value](const Value* other) { return other == value; };
    if (value != nullptr) known.find_or_add(detail::hash_of_address(value), value, is_it);
    if (value == nullptr) {
      one_sided.missing.push_back({join(prefix, name), describe(target)});
    } else if (std::string why = why_not(target, *value, plan.convert_dtypes); !why.empty()) {
      plan.mismatches.mismatched.push_back({join(prefix, name), std::move(why)});
    } else {
      const at::Tensor& source = value->as<at::Tensor>();
      copies.push_back({std::move(target), source.requires_grad() ? source.detach() : source});
    }
  }
  for (const auto& [key, value] : state) {
    if (known.size() == state.size()) break;
    const auto is_it = [&value](const Value* other) { return other == &value; };
    if (known.find(detail::hash_of_address(&value), is_it) != nullptr) continue;
    const std::string* name = key.get_if<std::string>();
    one_sided.unexpected.push_back({join(prefix, name != nullptr ? *name : to_string(key)), describe(value)});
  }
  if (!plan.mismatches.empty()) return;
  plan.copies.insert(plan.copies.end(), std::make_move_iterator(copies.begin()), std::make_move_iterator(copies.end()));
}

bool detail::plan_load(torch::nn::Module& module, TensorTable& table, LoadPlan& plan) {
  std::vector<Named> tensors = collect(module);
  if (tensors.size() != table.size()) return false;
  std::vector<bool> is_taken(table.size());  // a parameter and a buffer may have one name
  plan.copies.reserve(plan.copies.size() + tensors.size());
  std::size_t expected = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    prefetch_ahead(i, tensors.size(), [&](std::size_t at) -> const at::Tensor& { return tensors[at].second; });
    auto& [name, target] = tensors[i];
    const auto index = table.find(name, expected);
    if (!index || is_taken[*index] || !table.take(*index, target)) return false;
    is_taken[*index] = true;
    expected = *index + 1;
    plan.copies.push_back({std::move(target), {}});
  }
  return true;
}

IncompatibleKeys load_state_dict(torch::nn::Module& module, const Dict& state_dict, bool strict) {
  detail::LoadPlan plan;
  plan.strict = strict;
  detail::plan_load(module, state_dict, "", plan);
  plan.run("load_state_dict of " + class_name(module));
  return {names(plan.skipped.missing), names(plan.skipped.unexpected)};
}

}  // namespace ckptio
