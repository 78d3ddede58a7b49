// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/strategy.h"

#include <c10/util/Type.h>

#include <typeinfo>

namespace ckptio {

std::string Strategy::name() const {
  const std::string name = c10::demangle(typeid(*this).name());
  const auto colon = name.rfind(':');
  return colon == std::string::npos ? name : name.substr(colon + 1);
}

void Strategy::set_checkpoint_io(std::shared_ptr<CheckpointIO> checkpoint_io) {
  if (handles_checkpoints()) {
    throw MisconfigurationError("The `" + name() +
                                "` strategy handles checkpoints by itself: it is not possible to use a custom "
                                "checkpoint plugin with it. Leave `CheckpointIO` out of `Trainer(plugins=...)`.");
  }
  if (checkpoint_io_) {
    throw MisconfigurationError("checkpoint_io set through both strategy class and plugins, choose one");
  }
  checkpoint_io_ = std::move(checkpoint_io);
}

}  // namespace ckptio
