// SPDX-License-Identifier: Apache-2.0
// Memory for tensors that are loaded.
#pragma once

#include <c10/core/Storage.h>

#include <cstddef>

namespace ckptio::detail {

// A storage on the CPU, uninitialised, that LibTorch can resize. Where it is large, its pages are huge ones if the
// system gives them, which costs a fault for 2 MiB instead of 512, and go back to the system with it. std::bad_alloc or
// c10::Error where there is no memory.
c10::Storage make_cpu_storage(std::size_t n_bytes);

}  // namespace ckptio::detail
