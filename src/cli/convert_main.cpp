// SPDX-License-Identifier: Apache-2.0
// ckptio-convert IN OUT FORMAT: the conversions of `ckptio convert` that need LibTorch; ckptio starts it, having
// checked IN. Tensors are mapped from IN where its format can be, so that files larger than memory can be converted.
#include <cstdio>
#include <memory>
#include <string>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/load_checkpoint.h"
#include "cli/exit_code.h"

namespace {

using namespace ckptio;

std::unique_ptr<CheckpointIO> writer_of(const std::string& format) {
  if (format == "torch") return std::make_unique<TorchCheckpointIO>();
  if (format == "safetensors") return std::make_unique<SafetensorsCheckpointIO>();
  return std::make_unique<PythonCheckpointIO>();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "ckptio: ckptio-convert is a part of ckptio; `ckptio convert` calls it\n");
    return cli::kUsage;
  }
  try {
    const std::string in = argv[1], out = argv[2], format = argv[3];
    writer_of(format)->save_checkpoint(load_checkpoint(in, {.mmap = true}), out);
    return cli::kOk;
  } catch (const std::exception& error) {
    return cli::report(error);
  }
}
