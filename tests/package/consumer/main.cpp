// SPDX-License-Identifier: Apache-2.0
// A user's program: saves and loads with a plugin of its own. Returns 0 if all came back equal.
#include <ckptio/version.h>

#include <iostream>

#include "my_checkpoint_io.h"

int main() {
  MyCheckpointIO io;
  const ckptio::Checkpoint checkpoint{{"epoch", 3},
                                      {"state_dict", ckptio::Dict{{"weight", torch::arange(6).reshape({2, 3})}}},
                                      {"betas", ckptio::Tuple{0.9, 0.999}}};
  io.save_checkpoint(checkpoint, "mine.ckpt");
  const std::optional<ckptio::Checkpoint> loaded = io.load_checkpoint("mine.ckpt");
  if (!loaded || *loaded != checkpoint) {
    std::cerr << "came back different\n";
    return 1;
  }
  io.remove_checkpoint("mine.ckpt");
  try {
    io.load_checkpoint("mine.ckpt");
    std::cerr << "loaded what was removed\n";
    return 1;
  } catch (const ckptio::NotFoundError& error) {
    std::cout << "ckptio " << ckptio::kVersion << ": " << error.what() << '\n';
  }
}
