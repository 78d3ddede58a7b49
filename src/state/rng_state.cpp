// SPDX-License-Identifier: Apache-2.0
#include "ckptio/rng_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Generator.h>

#include <mutex>

#include "ckptio/verify.h"
#include "state/describe.h"

namespace ckptio {
namespace {

// Taken by value, a handle: the lock is no const member.
at::Tensor get_state(at::Generator generator) {
  const std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

void set_state(at::Generator generator, const at::Tensor& state) {
  const std::lock_guard lock(generator.mutex());
  generator.set_state(state);
}

const at::Generator& cpu_generator() { return at::detail::getDefaultCPUGenerator(); }

std::vector<at::Generator> cuda_generators() {
  std::vector<at::Generator> generators;
  if (!at::globalContext().hasCUDA()) return generators;
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  for (c10::DeviceIndex i = 0; i < static_cast<c10::DeviceIndex>(at::detail::getCUDAHooks().deviceCount()); ++i) {
    generators.push_back(at::globalContext().defaultGenerator(c10::Device(c10::DeviceType::CUDA, i)));
  }
  return generators;
}

// Why `generator` can't take the state; empty where it can. A copy of the generator tries it.
std::string why_not(const at::Generator& generator, const Value& value) {
  const at::Tensor* state = value.get_if<at::Tensor>();
  const at::Tensor current = get_state(generator);
  if (state == nullptr || !state->defined() || state->is_meta() || state->scalar_type() != at::kByte ||
      state->sizes() != current.sizes()) {
    return detail::describe(current) + " expected, found " + detail::describe(value);
  }
  verify(*state);
  try {
    generator.clone().set_state(state->detach().cpu().contiguous());
  } catch (const c10::Error& error) {
    return std::string("refused by the generator: ") + error.what_without_backtrace();
  }
  return "";
}

void plan_one(const at::Generator& generator, const Value& value, const std::string& name, detail::LoadPlan& plan) {
  std::string why = why_not(generator, value);
  if (!why.empty()) {
    plan.mismatches.mismatched.push_back({name, std::move(why)});
    return;
  }
  // A copy of its own: the caller may change the tensor, and set_state reads it on the CPU.
  const at::Tensor state = value.as<at::Tensor>().detach().cpu().contiguous().clone();
  plan.commits.push_back([generator, state] { set_state(generator, state); });
}

}  // namespace

Dict RngState::state_dict() const {
  return detail::translate_errors("RngState::state_dict", [] {
    Dict state{{"cpu", get_state(cpu_generator())}};
    List cuda;
    for (const at::Generator& generator : cuda_generators()) cuda.push_back(get_state(generator));
    if (!cuda.empty()) state["cuda"] = std::move(cuda);
    return state;
  });
}

void RngState::plan_load(const Dict& state, const std::string& prefix, detail::LoadPlan& plan) {
  const Value* cpu = state.find("cpu");
  if (cpu != nullptr) {
    plan_one(cpu_generator(), *cpu, detail::join(prefix, "cpu"), plan);
  } else {
    plan.mismatches.missing.push_back({detail::join(prefix, "cpu"), ""});
  }
  for (const auto& [key, value] : state) {
    if (key == Value("cpu") || key == Value("cuda")) continue;
    plan.mismatches.unexpected.push_back({detail::join(prefix, to_string(key)), detail::describe(value)});
  }
  const Value* cuda = state.find("cuda");
  if (cuda == nullptr) return;
  const std::string name = detail::join(prefix, "cuda");
  const List* states = cuda->get_if<List>();
  if (states == nullptr) {
    plan.mismatches.mismatched.push_back({name, "list expected, found " + detail::describe(*cuda)});
    return;
  }
  const std::vector<at::Generator> generators = cuda_generators();
  for (std::size_t i = 0; i < std::min(generators.size(), states->size()); ++i) {
    plan_one(generators[i], states->at(static_cast<std::int64_t>(i)), name + "[" + std::to_string(i) + "]", plan);
  }
}

void RngState::load_state_dict(const Dict& state) {
  detail::LoadPlan plan;
  plan_load(state, "", plan);
  plan.run("load_state_dict of RngState");
}

}  // namespace ckptio
