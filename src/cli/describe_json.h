// SPDX-License-Identifier: Apache-2.0
// A checkpoint's content as one JSON value: every type, every value, a hash of every tensor.
//
//   {"t": "dict", "items": [[{"t": "str", "v": "w"}, {"t": "tensor", "dtype": "float32", "shape": [2, 3], ...}]]}
//
// "t" is none bool int float str bytes bytearray complex list tuple set frozenset dict odict counter defaultdict size
// dtype device layout tensor sparse quant nested storage object ref jit_archive. Integers are decimal strings
// (hexadecimal beyond 10000 bits), floats the hex digits of their bits, strings "v" if ASCII, else "utf8" in hex, and
// from 2000 characters on their "sha256" and "nbytes". A container that is met more than once has an "id", and later
// sightings are {"t": "ref", "id"}. "storage" numbers storages as they are first met. "sha256" of a tensor is that of
// its elements' bytes, rows first, little-endian, conj and neg resolved; null where a small storage claims to be an
// enormous tensor. An "object" has its class, the global that makes it and what it is made with; a class or
// function itself the "global" alone. Of a LibTorch archive of modules: their names, and their parameters and buffers.
// tests/interop/fixtures/make_fixtures.py describes Python's values in the same way.
#pragma once

#include <functional>
#include <string_view>

#include "cli/storage_bytes.h"
#include "codec/object.h"

namespace ckptio::cli {

// Calls `write` with the text, piece by piece. Memory is bounded by that of the graph. Errors: those of reading the
// storages; CorruptError for indices of sparse tensors that lead outside; UnsupportedError where a small file's text
// would be enormous.
void describe_json(StorageBytes& bytes, const std::function<void(std::string_view)>& write);

}  // namespace ckptio::cli
