// SPDX-License-Identifier: Apache-2.0
// The default random generators of all devices, as one Dict.
#pragma once

#include "ckptio/rng_state.h"

namespace ckptio::detail {

inline Dict capture_generators() { return RngState().state_dict(); }
inline void restore_generators(const Dict& state) { RngState().load_state_dict(state); }

}  // namespace ckptio::detail
