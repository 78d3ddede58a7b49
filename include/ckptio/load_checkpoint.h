// SPDX-License-Identifier: Apache-2.0
// Loads a checkpoint of any format: looks at the bytes, not at the name.
//
//   ckptio::Checkpoint checkpoint = ckptio::load_checkpoint("last.ckpt");
//
//   files of torch.save, old and new, and Lightning's   as PythonCheckpointIO
//   LibTorch's archives, TorchCheckpointIO's files      as TorchCheckpointIO
//   safetensors                                         as SafetensorsCheckpointIO
//
// A library that is told the format should use its class: what a file may be is then not the file's choice.
// Threads: safe.
#pragma once

#include <string>

#include "ckptio/checkpoint_io.h"
#include "ckptio/storage/storage_backend.h"

namespace ckptio {

// The checkpoint at `path`. options.state is ignored. TypeError where a file of torch.save holds no dict;
// UnsupportedError where the bytes are none of these formats; else the errors of that format.
Checkpoint load_checkpoint(const std::string& path, const LoadOptions& options = {});
Checkpoint load_checkpoint(StorageBackend& storage, const std::string& path, const LoadOptions& options = {});

// The same for what is no dict too: torch.save writes tensors, lists, anything.
Value load_value(const std::string& path, const LoadOptions& options = {});
Value load_value(StorageBackend& storage, const std::string& path, const LoadOptions& options = {});

}  // namespace ckptio
