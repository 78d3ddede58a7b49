// SPDX-License-Identifier: Apache-2.0
// The parts of a run that are no module and no optimizer, as objects that a State can name; and their names.
#pragma once

#include "ckptio/state.h"
#include "trainer/run.h"

namespace ckptio::detail {

// The key `loops`, as Lightning's: progress and metrics.
struct LoopsState {
  Run& run;
  Dict state_dict() const;
  void load_state_dict(const Dict& state);
};

// The key `callbacks`: {state_key: state}, without those that have none.
struct CallbacksState {
  Run& run;
  // MisconfigurationError where two have one key.
  Dict state_dict() const;
  // Warns of states whose callback is not here.
  void load_state_dict(const Dict& state);
};

// The key `rng_state`. Loading only keeps it: the loop takes it up once it has found its place in the epoch.
struct GeneratorsState {
  Run& run;
  Dict state_dict() const;
  void load_state_dict(const Dict& state) { run.resume_rng = state; }
  // Checks whether the generators would take it, which load_state_dict alone finds out too late.
  void plan_load(const Dict& state, const std::string& prefix, LoadPlan& plan);
  static bool may_be_absent() { return true; }  // Python's Lightning saves none
};

// The objects of a run under the keys of its checkpoint. A State borrows, so these live beside it.
class TrainerState {
 public:
  explicit TrainerState(Run& run) : run_(run), loops_{run}, callbacks_{run}, generators_{run} {}

  // Only the names that `wanted` says yes to.
  State select(const std::function<bool(const std::string& name)>& wanted);

 private:
  std::vector<LRScheduler*> lr_schedulers() const;

  Run& run_;
  LoopsState loops_;
  CallbacksState callbacks_;
  GeneratorsState generators_;
};

}  // namespace ckptio::detail
