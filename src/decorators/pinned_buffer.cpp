// SPDX-License-Identifier: Apache-2.0
#include "decorators/pinned_buffer.h"

#include <ATen/Context.h>

#include <cerrno>
#include <string>

#include "ckptio/error.h"
#include "value/torch_reason.h"

namespace ckptio::detail {

c10::Allocator* pinned_allocator() noexcept {
  try {
    const auto accelerator = at::getAccelerator();
    return accelerator ? at::globalContext().getPinnedMemoryAllocator(*accelerator) : nullptr;
  } catch (const std::exception&) {  // how accelerators say that they have none
    return nullptr;
  }
}

void PinnedBuffer::grow(std::size_t n_bytes) {
  if (n_bytes <= capacity_) return;
  memory_.clear();  // the allocator may make the new one of it
  data_ = nullptr;
  capacity_ = 0;
  try {
    memory_ = pinned_allocator()->allocate(n_bytes);
  } catch (const std::exception& error) {
    throw IoError("cannot get " + std::to_string(n_bytes) +
                      " bytes of pinned memory to stage a checkpoint in: " + torch_reason(error),
                  ENOMEM);
  }
  data_ = static_cast<char*>(memory_.mutable_get());
  capacity_ = n_bytes;
}

}  // namespace ckptio::detail
