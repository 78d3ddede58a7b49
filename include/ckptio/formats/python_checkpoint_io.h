// SPDX-License-Identifier: Apache-2.0
// PythonCheckpointIO: checkpoints that Python's torch.load and Lightning read, and those that they write. The one to
// recommend.
//
// The file is what Python's torch.save writes, byte by byte in its layout: torch.load reads it with weights_only=True,
// mmap=True and config.load.calculate_storage_offsets; torch::pickle_load reads it where it holds what LibTorch knows
// (dict, list, tuple, str, float, bool, None, int, tensors of the common types). The folder within the archive is
// always `archive`, as Lightning has it, so that the bytes do not depend on the file's name: equal checkpoints are
// equal files.
//
// What Python's types become: value.h. Kept: dtype, shape, strides, requires_grad, and the storages that tensors share
// (a storage is written whole, once, however small its views are); OrderedDict with a state_dict's `_metadata`,
// Counter, set, torch.Size, every integer; and objects of any other class, as an Opaque that nothing executes and that
// is written back as it was. Not kept: that a tensor was a torch.nn.Parameter, or carried attributes of Python's
// (outside of an Opaque); that two places hold one list or dict rather than two equal ones. Memory: tensors are written
// from where they are and read to where they stay; nothing is held twice.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "ckptio/checkpoint_io.h"
#include "ckptio/storage/storage_backend.h"

namespace ckptio {

namespace detail {
class IoEngine;
}

struct PythonCheckpointIOOptions {
  // Where checkpoints are kept; null: LocalStorage, durable.
  std::shared_ptr<StorageBackend> storage{};
  // 40 decimal digits that torch.load takes for the file's identity (`serialization_id`). Empty: made of the names and
  // checksums of what is in it, as PyTorch does.
  std::string serialization_id{};
  // True: requires_state_on_load() is true, so that the Trainer has checkpoints restored in place.
  bool restore_in_place = false;
  // How many threads write and read a file side by side, with the one that calls: 1 starts none. They are not
  // LibTorch's, and wait for the next call until teardown(). 0: as many as the processor runs at once, up to 4.
  std::size_t n_threads = 0;
};

// Threads: any number may call at once (a StorageBackend allows it); their reading and writing takes turns.
class PythonCheckpointIO : public CheckpointIO {
 public:
  // Keeps checkpoints on the local disk: LocalStorage, durable.
  PythonCheckpointIO();
  // ValueError for a storage that is null, and for a serialization_id that is none.
  explicit PythonCheckpointIO(std::shared_ptr<StorageBackend> storage);
  explicit PythonCheckpointIO(PythonCheckpointIOOptions options);
  ~PythonCheckpointIO() override;

  // Writes and commits as the storage does: a reader finds the old checkpoint or the new one. Parent folders are made.
  // TypeError if `storage_options` are given, even empty ones. ValueError for containers nested deeper than 1000.
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options = std::nullopt) override;

  // Reads files of torch.save, also those before torch 1.6 (no zip) and of machines of the other byte order, and
  // LibTorch's archives, whose attributes it gives. Every byte is checked against its CRC-32 where the file has one,
  // unless options.verify is false; of mapped files when options.verify_mapped says.
  // With options.state, tensors go from the file straight into those of its modules and optimizers: where shape, dtype
  // and layout in memory are the same, nothing is held twice. Names, shapes, dtypes and every checksum are checked
  // before the first of them changes, so contents are read twice, unless options.transactional is false. Returns what
  // the state has no name for, or nullopt where that is nothing. An IoError while they change says so: the state is
  // then no longer to be used. TypeError if options.map_location is given too; options.mmap is ignored. UnsafeError:
  // weights_only = true, and the file names a class or function beyond those of tensors and plain values; lists each
  // and where it is. TypeError: what was saved is no dict (load_value reads it). CorruptError: not a checkpoint, empty,
  // truncated, altered, or beyond what it could be. UnsupportedError: beyond the limits, such as containers nested
  // deeper than 1000, or more than 256 MiB of values beside the tensors.
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options = {}) override;

  void remove_checkpoint(const std::string& path) override;
  bool requires_state_on_load() const override;
  // Ends the threads.
  void teardown() override;

  // torch.save and torch.load of anything: a tensor, a list, an Opaque. As above.
  void save_value(const Value& value, const std::string& path);
  Value load_value(const std::string& path, const LoadOptions& options = {});

 private:
  PythonCheckpointIOOptions options_;
  std::unique_ptr<detail::IoEngine> engine_;
};

}  // namespace ckptio
