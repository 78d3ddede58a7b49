// SPDX-License-Identifier: Apache-2.0
// Mismatches and LoadPlan: a load that changes all of its objects or none.
//
// 1. Every object checks its state and adds to the plan. 2. If anything does not fit, one MismatchError names all of
// it. 3. Attempts, which may still refuse, run; a refusal puts back the attempts before it. 4. Tensors are copied, and
// commits run. They were checked, so only a lack of memory or a failing device can stop them; the error then says that
// the load is half done.
#include <cstddef>
#include <exception>
#include <set>
#include <sstream>

#include "ckptio/state.h"
#include "ckptio/verify.h"
#include "state/describe.h"
#include "state/tensor_copier.h"

namespace ckptio::detail {
namespace {

void print_group(std::ostream& out, const char* title, const std::vector<Mismatches::Entry>& entries) {
  if (entries.empty()) return;
  out << "\n  " << title << " (" << entries.size() << "):";
  for (const auto& [name, detail] : entries) {
    out << "\n    " << name;
    if (!detail.empty()) out << ": " << detail;
  }
}

// Tensors of a state_dict alias the live ones; a copy that shall undo a load must not.
Value clone_tensors(const Value& value);

template <class Sequence>
Value clone_items(const Sequence& items) {
  List copies;
  for (const Value& item : items) copies.push_back(clone_tensors(item));
  return Sequence(copies.begin(), copies.end());
}

Dict clone_tensors(const Dict& dict) {
  Dict copy = dict;  // with its type and attributes
  for (auto& [key, value] : copy) value = clone_tensors(value);
  return copy;
}

Value clone_tensors(const Value& value) {
  if (value.is<at::Tensor>()) {
    const at::Tensor& tensor = value.as<at::Tensor>();
    verify(tensor);
    return tensor.defined() ? tensor.detach().clone() : tensor;
  }
  if (value.is<List>()) return clone_items(value.as<List>());
  if (value.is<Tuple>() && !value.as<Tuple>().is_size()) return clone_items(value.as<Tuple>());
  if (value.is<Dict>()) return clone_tensors(value.as<Dict>());
  return value;
}

// Puts back what was applied, the latest first. Nothing can be done about one that refuses its own former state.
void undo(const std::vector<LoadPlan::Attempt>& attempts, const std::vector<Dict>& before, std::size_t n_applied) {
  while (n_applied-- > 0) {
    try {
      attempts[n_applied].load(before[n_applied]);
    } catch (const std::exception&) {
      continue;
    }
  }
}

void run_attempts(const std::vector<LoadPlan::Attempt>& attempts) {
  std::vector<Dict> before;
  for (std::size_t i = 0; i < attempts.size(); ++i) {
    // Nothing that may refuse comes after the last one: it needs no copy to go back to.
    if (i + 1 < attempts.size()) before.push_back(clone_tensors(attempts[i].save()));
    try {
      attempts[i].apply();
    } catch (const MismatchError& error) {
      undo(attempts, before, i);
      throw MismatchError(attempts[i].name.empty() ? error.what() : attempts[i].name + ": " + error.what());
    } catch (...) {
      undo(attempts, before, i);
      throw;
    }
  }
}

const void* memory_of(const at::Tensor& tensor) {
  return tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

// A source in memory that the load writes to (a module's own tensors under other names) must be read before that.
void separate(std::vector<LoadPlan::TensorCopy>& copies) {
  std::set<const void*> written;
  for (const auto& [target, source] : copies) written.insert(memory_of(target));
  written.erase(nullptr);
  for (auto& [target, source] : copies) {
    if (!target.is_same(source) && written.contains(memory_of(source))) source = source.clone();
  }
}

void copy_tensors(const std::vector<LoadPlan::TensorCopy>& copies) {
  const at::NoGradGuard no_grad;
  for (const auto& [target, source] : copies) target.copy_(source);
}

}  // namespace

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

void Mismatches::throw_if_any(const std::string& what) const {
  if (empty()) return;
  std::ostringstream out;
  out << what << ": the state does not fit; nothing was changed";
  print_group(out, "missing", missing);
  print_group(out, "unexpected", unexpected);
  print_group(out, "mismatched", mismatched);
  throw MismatchError(out.str());
}

void LoadPlan::run(const std::string& what) {
  mismatches.throw_if_any(what);
  translate_errors(what, [&] {
    if (copier != nullptr) {
      copier->check(copies);
    } else {
      for (const TensorCopy& each : copies) verify(each.source);
      separate(copies);
    }
    run_attempts(attempts);
  });
  translate_errors(what + ": stopped half done", [&] {
    if (copier != nullptr) {
      copier->copy();
    } else {
      copy_tensors(copies);
    }
    for (const auto& commit : commits) commit();
  });
}

}  // namespace ckptio::detail
