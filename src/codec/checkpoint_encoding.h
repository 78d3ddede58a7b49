// SPDX-License-Identifier: Apache-2.0
// The Checkpoint in an archive of TorchCheckpointIO, as inert objects. include/ckptio/formats/torch_checkpoint_io.h
// describes the attributes, src/value/ivalue.h the tuples ("ckptio.<kind>", ...) that stand for what TorchScript lacks.
//
// An undefined tensor becomes None, which is what Python has for it.
// Threads: safe, on different graphs. Errors: CorruptError; UnsupportedError for a file of a newer version.
#pragma once

#include "codec/byte_source.h"
#include "codec/object.h"

namespace ckptio::detail {

// Where `graph.root`, the attributes of an archive, is one of TorchCheckpointIO's: makes the Checkpoint the root, with
// every tuple replaced by what it stands for, gives the storages the devices they were saved from, and returns true.
// Else changes nothing and returns false. `source` is for messages.
bool decode_checkpoint(ObjectGraph& graph, const ByteSource& source);

}  // namespace ckptio::detail
