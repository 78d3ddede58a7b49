// SPDX-License-Identifier: Apache-2.0
// PinnedBuffer: memory of the processor that stays where it is, so that an accelerator can copy to it while everything
// else goes on. It is expensive to get, even more than other memory.
// Threads: as a StagingBuffer.
#pragma once

#include <c10/core/Allocator.h>

#include "async/staging_memory.h"

namespace ckptio::detail {

// Of the process's accelerator; null where it has none, or there is no accelerator.
c10::Allocator* pinned_allocator() noexcept;

class PinnedBuffer final : public StagingBuffer {
 public:
  // Requires: there is a pinned_allocator().
  void grow(std::size_t n_bytes) override;

 private:
  c10::DataPtr memory_;
};

}  // namespace ckptio::detail
