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

// The same for many: small ones stand together in blocks of memory, each of which is freed with the last storage in it.
// Threads: one at a time; the storages go where they like.
class StorageMaker {
 public:
  StorageMaker() = default;
  StorageMaker(const StorageMaker&) = delete;
  StorageMaker& operator=(const StorageMaker&) = delete;
  ~StorageMaker();

  c10::Storage make(std::size_t n_bytes);

 private:
  class Block;
  Block* block_ = nullptr;  // the latest
};

}  // namespace ckptio::detail
