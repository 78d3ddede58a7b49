// SPDX-License-Identifier: Apache-2.0
// The memory of the stand-in accelerator, all of which is the process's own.
// Threads: safe from any.
#pragma once

#include <c10/core/Allocator.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "support/stand_in/work_stream.h"

namespace ckptio::test {

// The devices': as caching allocators do, gives memory out again as soon as it is freed and the streams are done with
// it that it was told of. For the stream that it was allocated for, work is in order anyway.
class DeviceMemory : public c10::Allocator {
 public:
  explicit DeviceMemory(std::function<c10::Device()> current_device) : current_device_(std::move(current_device)) {}

  c10::DataPtr allocate(std::size_t n_bytes) override;
  c10::DeleterFnPtr raw_deleter() const override { return &DeviceMemory::release; }
  void copy_data(void* to, const void* from, std::size_t n_bytes) const override {
    default_copy_data(to, from, n_bytes);
  }
  void note_use(const c10::DataPtr& data, WorkStream& stream);

 private:
  struct Block {
    DeviceMemory& home;
    std::unique_ptr<char[]> bytes;
    std::size_t n_bytes = 0;
    bool is_free;
    std::vector<WorkStream*> users;
  };
  static void release(void* context);
  void free_after_users(Block& block);

  const std::function<c10::Device()> current_device_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

class PinnedMemory : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t n_bytes) override;
  void copy_data(void* to, const void* from, std::size_t n_bytes) const override {
    default_copy_data(to, from, n_bytes);
  }
  bool contains(const void* address) const;

  std::atomic<int> n_allocations = 0;
  std::atomic<bool> is_exhausted = false;

 private:
  struct Block {
    PinnedMemory& home;
    std::unique_ptr<char[]> bytes;
  };
  static void release(void* context);

  mutable std::mutex mutex_;
  std::map<const char*, std::size_t> sizes_;
};

}  // namespace ckptio::test
