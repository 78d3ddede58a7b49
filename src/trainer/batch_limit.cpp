// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/batch_limit.h"

#include <algorithm>
#include <string>

#include "ckptio/error.h"

namespace ckptio {

std::optional<std::int64_t> BatchLimit::of(std::optional<std::int64_t> n_available, const char* name) const {
  if (!is_fraction()) return n_available ? std::min(*n_available, n_batches()) : n_batches();
  if (fraction() == 1.0) return n_available;
  if (fraction() == 0.0) return 0;
  const std::string what = std::string(name) + "=" + std::to_string(fraction());
  if (!n_available) {
    throw MisconfigurationError("When using a loader that does not tell its length, " + what +
                                " must be 0.0, 1.0 or a number of batches (an integer).");
  }
  const auto n = static_cast<std::int64_t>(static_cast<double>(*n_available) * fraction());
  if (n == 0 && *n_available > 0) {
    throw MisconfigurationError("You requested " + what + " of " + std::to_string(*n_available) +
                                " batches, which is less than one. Please increase it to at least " +
                                std::to_string(1.0 / static_cast<double>(*n_available)));
  }
  return n;
}

}  // namespace ckptio
