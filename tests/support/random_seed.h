// SPDX-License-Identifier: Apache-2.0
// The seed of a random test: another one each run, printed, and set again with CKPTIO_TEST_SEED=<number>.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>

namespace ckptio::test {

inline unsigned random_seed() {
  static const unsigned seed = [] {
    const char* text = std::getenv("CKPTIO_TEST_SEED");
    const unsigned value =
        text != nullptr ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : std::random_device()();
    std::printf("random tests: CKPTIO_TEST_SEED=%u\n", value);
    return value;
  }();
  return seed;
}

}  // namespace ckptio::test
