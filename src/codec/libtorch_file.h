// SPDX-License-Identifier: Apache-2.0
// Reads LibTorch's archives: what torch::save writes of tensors, modules, optimizers and Checkpoints, and the data of
// TorchScript files. Their code is never looked at.
//
// Errors: CorruptError, UnsupportedError.
#pragma once

#include "codec/archive.h"
#include "codec/zip_reader.h"

namespace ckptio::detail {

ArchiveContents read_libtorch_file(const ZipReader& zip);

}  // namespace ckptio::detail
