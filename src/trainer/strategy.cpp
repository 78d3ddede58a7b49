// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/strategy.h"

#include <typeinfo>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "value/type_name.h"

namespace ckptio {

std::string Strategy::name() const { return detail::type_name(typeid(*this)); }

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

void detail::set_default_checkpoint_io(Strategy& strategy) {
  strategy.checkpoint_io_ = std::make_shared<TorchCheckpointIO>();
}

}  // namespace ckptio
