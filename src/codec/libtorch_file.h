// SPDX-License-Identifier: Apache-2.0
// Reads LibTorch's archives: what torch::save writes of tensors, modules, optimizers and Checkpoints, and the data of
// TorchScript files.
//
//   data.pkl        one object of a class of __torch__: its attributes; the tensors' bytes in data/N
//   constants.pkl   tensors of functions, their bytes in constants/N: checked, and left out
//   code/           the classes as text. It is never run: only what it declares is looked at (torchscript_code.h)
//
// An object of a class becomes the dict of its attributes, a module within a module a dict within a dict. One whose
// class restores itself by code (__setstate__), is not in code/, or is an Enum stays an ObjectOpaque. The archive of a
// TorchCheckpointIO becomes the Checkpoint in it (checkpoint_encoding.h).
// Errors: CorruptError, UnsupportedError.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "codec/archive.h"
#include "codec/zip_reader.h"

namespace ckptio::detail {

ArchiveContents read_libtorch_file(const ZipReader& zip);

// What an archive of modules holds under the names that Python gives: named_parameters(), then named_buffers(), and
// named_modules(), whose first is ''. What is used twice is named once. CorruptError beyond kMaxModuleNameBytes.
struct ModuleNames {
  std::vector<std::pair<std::string, const Object*>> tensors;
  std::vector<std::string> modules;
};

// All names together: a module within a module within ... has a name as long as the way to it.
inline constexpr std::uint64_t kMaxModuleNameBytes = std::uint64_t{16} << 20;

ModuleNames name_modules(const Archive& archive);

}  // namespace ckptio::detail
