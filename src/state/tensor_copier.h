// SPDX-License-Identifier: Apache-2.0
// TensorCopier: how a load copies tensors whose contents are still in a file. State checks names, shapes and dtypes by
// tensors that stand for them; their contents go from the file straight to where they belong.
// TensorTable: the same for a dict of nothing but tensors, before Values are made of it. A model has thousands of them.
//
// Threads: as the load.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckptio/state.h"

namespace ckptio::detail {

class TensorTable {
 public:
  virtual ~TensorTable() = default;

  virtual std::size_t size() const = 0;
  // The entry of this name; it is looked for at `expected` first.
  virtual std::optional<std::size_t> find(const std::string& name, std::size_t expected) const = 0;
  // Says that the next copy of the plan without a source is of this entry, if its elements stand in the file as they
  // will in `target`. Else false.
  virtual bool take(std::size_t index, const at::Tensor& target) = 0;
};

// Thrown where a table does not do: Values tell what does not fit, and may be converted. The load begins anew with
// them.
struct ValuesNeeded {
  std::string name;  // the table's
};

class TensorCopier {
 public:
  virtual ~TensorCopier() = default;

  // What stands for this entry of the checkpoint, in which it is left out then; "" is the whole checkpoint. Else null.
  virtual TensorTable* table(const std::string& name) = 0;

  // All fits, and nothing was changed yet: what this throws ends the load. `copies` are those that copy() will do; they
  // stay where they are until then.
  virtual void check(const std::vector<LoadPlan::TensorCopy>& copies) = 0;
  virtual void copy() = 0;
  // `state` with tensors of its own, for objects that may keep them.
  virtual Dict own(const Dict& state) = 0;
};

// State::load_state_dict, with tensors that `copier` knows. Also throws ValuesNeeded.
Dict load_through(TensorCopier& copier, State& state, const Dict& checkpoint, bool convert_dtypes);

// plan_load of the module where all its names are the table's, and every tensor fits; else false.
bool plan_load(torch::nn::Module& module, TensorTable& table, LoadPlan& plan);

}  // namespace ckptio::detail
