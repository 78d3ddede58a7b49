// SPDX-License-Identifier: Apache-2.0
// TensorCopier: how a load copies tensors whose contents are still in a file. State checks names, shapes and dtypes by
// tensors that stand for them; their contents go from the file straight to where they belong.
//
// Threads: as the load.
#pragma once

#include <vector>

#include "ckptio/state.h"

namespace ckptio::detail {

class TensorCopier {
 public:
  virtual ~TensorCopier() = default;

  // All fits, and nothing was changed yet: what this throws ends the load. `copies` are those that copy() will do; they
  // stay where they are until then.
  virtual void check(const std::vector<LoadPlan::TensorCopy>& copies) = 0;
  virtual void copy() = 0;
  // `state` with tensors of its own, for objects that may keep them.
  virtual Dict own(const Dict& state) = 0;
};

// State::load_state_dict, with tensors that `copier` knows.
Dict load_through(TensorCopier& copier, State& state, const Dict& checkpoint, bool convert_dtypes);

}  // namespace ckptio::detail
