// SPDX-License-Identifier: Apache-2.0
// state_dict and load_state_dict of modules: torch.nn.Module's (torch/nn/modules/module.py, 2.13.0).
#include <ATen/MemoryOverlap.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Type.h>

#include <algorithm>
#include <set>
#include <utility>

#include "ckptio/state.h"
#include "state/convert_dtypes.h"
#include "state/describe.h"

namespace ckptio {
namespace {

using Named = std::pair<std::string, at::Tensor>;

// LibTorch's own recursion orders tensors differently and drops a shared module's second name.
void collect(const torch::nn::Module& module, const std::string& prefix, std::vector<Named>& tensors) {
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    if (item.value().defined()) tensors.emplace_back(prefix + item.key(), item.value());
  }
  for (const auto& item : module.named_buffers(/*recurse=*/false)) {
    if (item.value().defined()) tensors.emplace_back(prefix + item.key(), item.value());
  }
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
  std::set<std::string> known;
  for (const auto& [name, target] : collect(module)) {
    known.insert(name);
    const Value* value = state.find(name);
    if (value == nullptr) {
      one_sided.missing.push_back({join(prefix, name), describe(target)});
    } else if (std::string why = why_not(target, *value, plan.convert_dtypes); !why.empty()) {
      plan.mismatches.mismatched.push_back({join(prefix, name), std::move(why)});
    } else {
      copies.push_back({target, value->as<at::Tensor>().detach()});
    }
  }
  for (const auto& [key, value] : state) {
    const std::string* name = key.get_if<std::string>();
    if (name != nullptr && known.contains(*name)) continue;
    one_sided.unexpected.push_back({join(prefix, name != nullptr ? *name : to_string(key)), describe(value)});
  }
  if (!plan.mismatches.empty()) return;
  plan.copies.insert(plan.copies.end(), copies.begin(), copies.end());
}

IncompatibleKeys load_state_dict(torch::nn::Module& module, const Dict& state_dict, bool strict) {
  detail::LoadPlan plan;
  plan.strict = strict;
  detail::plan_load(module, state_dict, "", plan);
  plan.run("load_state_dict of " + class_name(module));
  return {names(plan.skipped.missing), names(plan.skipped.unexpected)};
}

}  // namespace ckptio
