// SPDX-License-Identifier: Apache-2.0
// ckptio_async_exit_child FILE return|exit|error: ends while a save of FILE by an AsyncCheckpointIO is pending, which
// goes on once main is through.
#include <torch/torch.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"

namespace {

std::atomic<bool> main_is_through = false;

class Late : public ckptio::WrappingCheckpointIO {
 public:
  using WrappingCheckpointIO::WrappingCheckpointIO;
  void save_checkpoint(const ckptio::Checkpoint& checkpoint, const std::string& path,
                       const std::optional<ckptio::Dict>& storage_options) override {
    while (!main_is_through) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // time for a process that does not wait to be gone
    WrappingCheckpointIO::save_checkpoint(checkpoint, path, storage_options);
  }
};

// Destroyed after main, as plugins that a program keeps in a static object are.
std::shared_ptr<ckptio::AsyncCheckpointIO> io;

}  // namespace

int main(int argc, char* argv[]) {
  if (argc != 3) return 2;
  const std::string file = argv[1], how = argv[2];
  io = std::make_shared<ckptio::AsyncCheckpointIO>(
      std::make_shared<Late>(std::make_shared<ckptio::TorchCheckpointIO>()));
  auto w = torch::zeros({3});
  io->save_checkpoint({{"w", w}}, how == "error" ? file + "/not/a/folder" : file);
  w.add_(1);
  main_is_through = true;
  if (how == "exit") std::exit(7);
  return 7;
}
