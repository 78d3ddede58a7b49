// SPDX-License-Identifier: Apache-2.0
// A training loop of one's own that saves after every epoch and goes on where it was, without the Trainer. Run twice,
// in two halves, it ends with the very numbers of one long run.
#include <ckptio/ckptio.h>
#include <torch/torch.h>

#include <filesystem>
#include <iostream>

// Trains until `max_epochs` epochs are done, those that the checkpoint at `path` counts included. Returns the loss.
double train(const std::string& path, int64_t max_epochs) {
  torch::manual_seed(1);
  const auto inputs = torch::randn({64, 8}), targets = inputs.sum(1, /*keepdim=*/true);
  torch::nn::Sequential model(torch::nn::Linear(8, 32), torch::nn::ReLU(), torch::nn::Dropout(0.1),
                              torch::nn::Linear(32, 1));
  torch::optim::Adam optimizer(model->parameters(), 0.02);
  ckptio::StepLR scheduler(optimizer, /*step_size=*/4, /*gamma=*/0.5);
  ckptio::RngState rng;  // dropout draws from the default generator
  ckptio::State state;
  state.add("state_dict", *model).add("optimizer", optimizer).add("lr_scheduler", scheduler).add("rng_state", rng);

  ckptio::TorchCheckpointIO io;
  int64_t epoch = 0;
  double loss = 0;
  if (std::filesystem::exists(path)) {
    const auto checkpoint = io.load_checkpoint(path);
    const ckptio::Dict rest = state.load_state_dict(*checkpoint);  // all of it, or an error and nothing changed
    epoch = rest.at("epoch").as<int64_t>();
    std::cout << path << ": goes on after epoch " << epoch << '\n';
  }
  for (; epoch < max_epochs; ++epoch) {
    optimizer.zero_grad();
    auto error = torch::mse_loss(model->forward(inputs), targets);
    error.backward();
    optimizer.step();
    scheduler.step();
    loss = error.item<double>();
    ckptio::Checkpoint checkpoint = state.state_dict();
    checkpoint["epoch"] = epoch + 1;
    io.save_checkpoint(checkpoint, path);
  }
  return loss;
}

int main() {
  std::filesystem::remove_all("plain_loop");
  const double in_one = train("plain_loop/one.ckpt", 12);
  train("plain_loop/two.ckpt", 5);
  const double in_two = train("plain_loop/two.ckpt", 12);
  std::cout << "loss in one run: " << in_one << ", in two: " << in_two << '\n';
  return in_one == in_two ? 0 : 1;
}
