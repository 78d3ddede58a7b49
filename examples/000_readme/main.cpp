// SPDX-License-Identifier: Apache-2.0
#include <ckptio/ckptio.h>
#include <torch/torch.h>

#include <iostream>

int main() {
  torch::nn::Linear model(4, 2);
  torch::optim::Adam optimizer(model->parameters(), 0.01);
  ckptio::State state;
  state.add("state_dict", *model).add("optimizer", optimizer);

  ckptio::TorchCheckpointIO io;
  ckptio::Checkpoint checkpoint = state.state_dict();
  checkpoint["epoch"] = 3;
  io.save_checkpoint(checkpoint, "run/last.ckpt");     // atomic and durable
  auto loaded = io.load_checkpoint("run/last.ckpt");   // every byte checked
  ckptio::Dict rest = state.load_state_dict(*loaded);  // in place, all or nothing
  std::cout << "goes on after epoch " << rest.at("epoch") << "\n";
}
