// SPDX-License-Identifier: Apache-2.0
// TorchCheckpointIO, the Trainer's default: torch::save and torch::load for Checkpoints, made atomic, durable and
// checked.
//
// The file is a LibTorch archive (the zip that torch::save writes for a module), so any LibTorch program reads it:
//
//   torch::serialize::InputArchive archive;
//   archive.load_from("last.ckpt");
//   c10::IValue checkpoint;
//   archive.read("checkpoint", checkpoint);                     // Dict[str, Any]
//   checkpoint.toGenericDict().at("state_dict").toGenericDict().at("fc.weight").toTensor();
//
// Attributes of the archive, format version 2:
//   ckptio_format_version  int: 1 or 2. A file of a newer version is an UnsupportedError that names both.
//   checkpoint             the Checkpoint as an IValue: None, bool, int, float, complex, str, Tensor, List[Any], Tuple,
//                          Dict[str, Any], Dict[int, Any]; what TorchScript lacks stands as a tuple whose first item
//                          is a str "ckptio.<kind>": bytes, int (beyond int64), dict (with other keys), undefined,
//                          meta, view (a tensor of another dtype on the storage of a given one), tuple. The version
//                          is 2 where it holds one of: ordered_dict, counter (an OrderedDict or Counter), set,
//                          frozenset, size, bytearray, dtype, device, layout, qscheme, storage. An Opaque is a
//                          TypeError.
//   ckptio_locations       list of str: the device ("cuda:0", ...) of each storage in the order of first appearance;
//                          only there if one was not on the CPU.
// Tensors keep dtype, shape, strides and requires_grad; those that share a storage share it after loading; a storage
// is written whole, once, however small its views are.
#pragma once

#include <torch/serialize/archive.h>

#include <memory>

#include "ckptio/checkpoint_io.h"
#include "ckptio/storage/storage_backend.h"

namespace ckptio {

// What torch::save(checkpoint, ...) and torch::load(checkpoint, ...) call. Tensors arrive where torch::load puts
// them. Reading an archive that holds no Checkpoint gives a Dict of its attributes, modules as nested Dicts.
// TypeError, ValueError: a value that cannot be encoded; CorruptError, UnsupportedError: one that cannot be decoded.
torch::serialize::OutputArchive& operator<<(torch::serialize::OutputArchive& archive, const Checkpoint& checkpoint);
torch::serialize::InputArchive& operator>>(torch::serialize::InputArchive& archive, Checkpoint& checkpoint);

// Threads: any number may call at once (a StorageBackend allows it).
class TorchCheckpointIO : public CheckpointIO {
 public:
  // Keeps checkpoints on the local disk: LocalStorage, durable.
  TorchCheckpointIO();
  // Keeps them in `storage`; null is a ValueError.
  explicit TorchCheckpointIO(std::shared_ptr<StorageBackend> storage);
  ~TorchCheckpointIO() override;

  // Writes and commits as the storage does: a reader finds the old checkpoint or the new one. Parent folders are made.
  // TypeError if `storage_options` are given, even empty ones.
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options = std::nullopt) override;

  // Before torch::load sees a file, our own reader has read all of it but the tensors' bytes, within bounds: its
  // structure and every record's CRC-32, its objects, the tensors' geometry and the sizes of their records, and that
  // reading it executes nothing it carries. Ignores options.state; the result is always there.
  // torch::load reads what is as save_checkpoint writes it. All else our own reader does, as LibTorch's crashes on some
  // files and cannot do others: archives of torch::save and of TorchScript, their data alone, as a Dict of their
  // attributes, and with weights_only = false the objects that LibTorch would restore by code, as Opaques; files of
  // Python's torch.save.
  // UnsafeError: a class with __setstate__, a TorchBind class, or a default value that is computed when the file is
  // read, unless weights_only = false; with weights_only = true also any TorchScript function and any Opaque, all of
  // them listed. CorruptError: not a checkpoint, empty, truncated, altered, hostile. UnsupportedError: written by a
  // newer ckptio; a safetensors file. TypeError: a file of Python's whose root is no dict.
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options = {}) override;

  void remove_checkpoint(const std::string& path) override;

 private:
  std::shared_ptr<StorageBackend> storage_;
};

}  // namespace ckptio
