// SPDX-License-Identifier: Apache-2.0
// libFuzzer's entry for the target that CKPTIO_FUZZ_TARGET names: fuzz_zip, ...
#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t n_bytes) {
  ckptio::test::CKPTIO_FUZZ_TARGET(data, n_bytes);
  return 0;
}
