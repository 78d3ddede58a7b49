// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ckptio/value.h"

namespace ckptio::test {

// An object of the user's that keeps what it is given.
struct Keeper {
  Dict kept;
  Dict state_dict() const { return kept; }
  void load_state_dict(const Dict& state) { kept = state; }
};

}  // namespace ckptio::test
