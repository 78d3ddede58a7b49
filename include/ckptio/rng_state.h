// SPDX-License-Identifier: Apache-2.0
// RngState: the state of LibTorch's default random number generators, to save and restore with a run.
//
//   RngState rng;
//   state.add("rng_state", rng);
//
// Does not cover generators of your own, nor those of the standard library.
// Threads: takes each generator's own lock; a state taken while other threads draw numbers is from one moment or
// another.
#pragma once

#include <string>

#include "ckptio/state.h"
#include "ckptio/value.h"

namespace ckptio {

class RngState {
 public:
  // {"cpu": uint8 [5056], "cuda": [uint8 [16], ... one per device]}, on the CPU; "cuda" only where there is CUDA. The
  // bytes are those of Python's torch.get_rng_state() and torch.cuda.get_rng_state_all(), which Python's setters take
  // (the sizes are PyTorch's own and may differ between versions). No generator advances.
  Dict state_dict() const;

  // Takes what state_dict() gives; the tensors may be on any device. A state without "cuda" leaves the CUDA
  // generators as they are, and states of CUDA devices that are not here are skipped, so that a run can go on
  // on another machine. MismatchError: no "cpu", other keys, what is no uint8 tensor of the right size, and bytes that
  // the generator refuses.
  void load_state_dict(const Dict& state);
  // The checking half of load_state_dict, for loads of several objects.
  void plan_load(const Dict& state, const std::string& prefix, detail::LoadPlan& plan);
};

}  // namespace ckptio
