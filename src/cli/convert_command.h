// SPDX-License-Identifier: Apache-2.0
// ckptio convert: writes a checkpoint in another format, or anew in the same one.
//
// To Python's format from Python's formats it works on the inert objects: every object of an unknown class, every
// shared reference and cycle is kept, and storages are streamed. What needs LibTorch is done by the program
// ckptio-convert, which stands in libexec/ckptio beside this one's bin.
#pragma once

#include <string>

#include "cli/console.h"

namespace ckptio::cli {

struct ConvertOptions {
  std::string in, out;
  std::string to;  // torch, python or safetensors; empty: by the extension of `out`
};

// The format for an extension: python for .pt, .pth, .ckpt, .bin; safetensors; torch for .torch. Empty for others.
std::string format_of_extension(const std::string& path);

int convert(const ConvertOptions& options, Console& console);

}  // namespace ckptio::cli
