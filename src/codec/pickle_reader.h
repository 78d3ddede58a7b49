// SPDX-License-Identifier: Apache-2.0
// Reads pickles (protocols 0 to 5) as inert data. Nothing is imported, called or executed, whatever the bytes say.
//
// Globals that PyTorch's files are made of become what they mean (known_globals.h); any other stays a name, and an
// object made with it an ObjectOpaque. The opcodes are those of Python's pickletools (3.13).
//
// Strict where Python is not: what a pickler would never write (an item assigned to an integer, a call whose result is
// dropped, a memo entry that was never stored) is a CorruptError that names the file, the record, the byte and the
// opcode. Memory, depth and work are bounded by limits.h.
#pragma once

#include <cstdint>
#include <string>

#include "codec/byte_source.h"
#include "codec/object.h"

namespace ckptio::detail {

// Whose globals and persistent ids are understood.
enum class PickleDialect : std::uint8_t {
  python,    // torch.save's zip files, and .metadata of distributed checkpoints
  legacy,    // torch.save's files before zip: persistent ids carry a view, storages follow the pickles
  libtorch,  // LibTorch's archives: classes of __torch__, persistent ids of TorchScript
};

struct PickleOptions {
  std::string where;  // the record, for messages: "archive/data.pkl"; empty: the file itself
  PickleDialect dialect = PickleDialect::python;
  std::uint64_t begin = 0;  // byte of the source where the pickle begins
};

// Reads one pickle and returns the byte after its STOP. The root is graph.root; storages and unknown globals are added
// to those that the graph has.
std::uint64_t read_pickle(ObjectGraph& graph, const ByteSource& source, const PickleOptions& options);

}  // namespace ckptio::detail
