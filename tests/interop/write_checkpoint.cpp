// SPDX-License-Identifier: Apache-2.0
// Writes the checkpoint that plain_libtorch reads: write_checkpoint FILE.
#include <torch/torch.h>

#include "ckptio/formats/torch_checkpoint_io.h"

int main(int, char** argv) {
  ckptio::TorchCheckpointIO().save_checkpoint({{"epoch", 3},
                                               {"state_dict", ckptio::Dict{{"fc.weight", torch::ones({2, 3})}}},
                                               {"betas", ckptio::Tuple{0.9, 0.999}}},
                                              argv[1]);
}
