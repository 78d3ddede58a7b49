// SPDX-License-Identifier: Apache-2.0
#include "ckptio/decorators/wrapping_checkpoint_io.h"

#include <c10/util/Type.h>

#include <typeinfo>
#include <utility>

namespace ckptio {

namespace {

// An async_save_checkpoint() that is going on on this thread: the save_checkpoint() that it calls leaves its future
// here.
struct AsyncCall {
  explicit AsyncCall(const WrappingCheckpointIO* of) : wrapper(of), outer(std::exchange(innermost, this)) {}
  AsyncCall(const AsyncCall&) = delete;
  AsyncCall& operator=(const AsyncCall&) = delete;
  ~AsyncCall() { innermost = outer; }

  const WrappingCheckpointIO* const wrapper;
  AsyncCall* const outer;
  SaveFuture save;
  static thread_local AsyncCall* innermost;
};
thread_local AsyncCall* AsyncCall::innermost = nullptr;

void require(const std::shared_ptr<CheckpointIO>& checkpoint_io) {
  if (!checkpoint_io) throw ValueError("WrappingCheckpointIO: the CheckpointIO to wrap is a null pointer");
}

}  // namespace

WrappingCheckpointIO::WrappingCheckpointIO(std::shared_ptr<CheckpointIO> checkpoint_io)
    : checkpoint_io_(std::move(checkpoint_io)) {
  require(checkpoint_io_);
}

WrappingCheckpointIO::~WrappingCheckpointIO() = default;

bool WrappingCheckpointIO::is_configured() const noexcept {
  if (!checkpoint_io_) return false;
  const auto* wrapper = dynamic_cast<const WrappingCheckpointIO*>(checkpoint_io_.get());
  return wrapper == nullptr || wrapper->is_configured();
}

void WrappingCheckpointIO::set_checkpoint_io(std::shared_ptr<CheckpointIO> checkpoint_io) {
  require(checkpoint_io);
  if (dynamic_cast<const WrappingCheckpointIO*>(checkpoint_io.get()) != nullptr) {
    throw TypeError("set_checkpoint_io: " + c10::demangle(typeid(*checkpoint_io).name()) +
                    " is a wrapper itself: wrap it by the constructor");
  }
  if (!checkpoint_io_) {
    checkpoint_io_ = std::move(checkpoint_io);
  } else if (auto* wrapper = dynamic_cast<WrappingCheckpointIO*>(checkpoint_io_.get())) {
    wrapper->set_checkpoint_io(std::move(checkpoint_io));
  }
}

CheckpointIO& WrappingCheckpointIO::wrapped() const {
  if (!checkpoint_io_) {
    throw MisconfigurationError(c10::demangle(typeid(*this).name()) +
                                " wraps no CheckpointIO yet: give it one, to the constructor or by "
                                "set_checkpoint_io(), as the Trainer does");
  }
  return *checkpoint_io_;
}

void WrappingCheckpointIO::save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                           const std::optional<Dict>& storage_options) {
  AsyncCall* const call = AsyncCall::innermost;
  if (call == nullptr || call->wrapper != this) return wrapped().save_checkpoint(checkpoint, path, storage_options);
  call->save.wait();
  call->save = wrapped().async_save_checkpoint(checkpoint, path, storage_options);
}

SaveFuture WrappingCheckpointIO::async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                                       const std::optional<Dict>& storage_options) {
  AsyncCall call(this);
  save_checkpoint(checkpoint, path, storage_options);
  return call.save;
}

std::optional<Checkpoint> WrappingCheckpointIO::load_checkpoint(const std::string& path, const LoadOptions& options) {
  return wrapped().load_checkpoint(path, options);
}

void WrappingCheckpointIO::remove_checkpoint(const std::string& path) { wrapped().remove_checkpoint(path); }

bool WrappingCheckpointIO::requires_state_on_load() const { return wrapped().requires_state_on_load(); }

bool WrappingCheckpointIO::saves_asynchronously() const { return wrapped().saves_asynchronously(); }

void WrappingCheckpointIO::reserve(const Checkpoint& checkpoint) { wrapped().reserve(checkpoint); }

void WrappingCheckpointIO::teardown() {
  if (checkpoint_io_) checkpoint_io_->teardown();
}

}  // namespace ckptio
