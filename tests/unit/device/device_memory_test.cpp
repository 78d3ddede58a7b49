// SPDX-License-Identifier: Apache-2.0
// What the process has resident while it saves and restores an accelerator's tensors.
#include <torch/torch.h>

#include <algorithm>
#include <vector>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/state.h"
#include "support/catch.h"
#include "support/peak_memory.h"
#include "support/stand_in/stand_in_device.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kTensorBytes = 256 * kMiB;
constexpr std::int64_t kAllowedBytes = 128 * kMiB;  // for the buffers of all threads, and what malloc keeps of them

struct OneTensor : torch::nn::Module {
  explicit OneTensor(std::int64_t n_bytes) {
    w = register_buffer("w", torch::empty({n_bytes}, torch::dtype(torch::kByte).device(StandIn::device())));
    std::fill_n(w.data_ptr<std::uint8_t>(), n_bytes, std::uint8_t{1});
  }
  at::Tensor w;
};

TEST_CASE("A save at once and a restore in place of a device's tensors hold no copy of them", "[device]") {
  if (!can_measure_memory()) return;
  const TempFolder folder;
  const std::vector<std::shared_ptr<CheckpointIO>> plugins{std::make_shared<PythonCheckpointIO>(),
                                                           std::make_shared<SafetensorsCheckpointIO>()};
  for (const auto& io : plugins) {
    for (const std::int64_t n_bytes : {kMiB, kTensorBytes}) {  // the first makes what is made once
      OneTensor model(n_bytes);
      State state(model);
      const PeakMemory peak;
      io->save_checkpoint(state.state_dict(), folder / "a.ckpt");
      CHECK(io->load_checkpoint(folder / "a.ckpt", {.state = &state}) == std::nullopt);
      CHECK(peak.bytes() <= kAllowedBytes);
    }
  }
}

}  // namespace
}  // namespace ckptio::test
