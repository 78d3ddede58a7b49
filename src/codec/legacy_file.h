// SPDX-License-Identifier: Apache-2.0
// Reads what torch.save wrote before version 1.6, and still does when told to:
//
//   pickle 1    a magic number              pickle 4    the objects
//   pickle 2    the protocol version, 1001  pickle 5    the keys of the storages, a list of strings
//   pickle 3    a dict about the machine    then        for each key: int64 number of elements, their bytes
//
// Numbers behind the pickles are little-endian whatever the machine was (torch/csrc/serialization.cpp converts them),
// and what pickle 3 says is not asked, as in Python. Nothing may follow the last storage. There is no checksum.
// Follows torch/serialization.py (_legacy_load) of torch 2.13. Errors: CorruptError, UnsupportedError.
#pragma once

#include "codec/archive.h"

namespace ckptio::detail {

// True if the file begins with the magic number's pickle, in any protocol.
bool looks_like_legacy_file(const ByteSource& source);

ArchiveContents read_legacy_file(const ByteSource& source);

}  // namespace ckptio::detail
