// SPDX-License-Identifier: Apache-2.0
// CheckpointIO: what a checkpoint is and how it is kept. Start here.
//
// Everything that can keep checkpoints is a subclass: formats (TorchCheckpointIO, the default), decorators around
// another plugin, and yours. A Trainer takes it as a plugin; a loop of your own calls it directly:
//
//   class MyCheckpointIO : public ckptio::CheckpointIO {
//    public:
//     void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
//                          const std::optional<Dict>& storage_options) override { ... }
//     std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options) override { ... }
//     void remove_checkpoint(const std::string& path) override { ... }
//   };
//   ckptio::Trainer trainer({.max_epochs = 2, .plugins = {std::make_shared<MyCheckpointIO>()}});
//
// tests/package holds a complete one. The names and their meaning are Lightning's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "ckptio/error.h"
#include "ckptio/map_location.h"
#include "ckptio/save_future.h"
#include "ckptio/value.h"

namespace ckptio {

class State;  // state.h: references to live modules, optimizers, ...

// For LoadOptions::mmap, where LoadOptions::verify is true.
enum class VerifyMapped : std::uint8_t {
  // The whole file before the load returns.
  at_once,
  // Each storage once, when verify() (verify.h) is called for it, or before another function of ckptio takes elements
  // out of it: load_state_dict, the saves of every plugin, `==` of Values. Then damage is a CorruptError of that call.
  // The load costs the same whatever the tensors' size. What code of yours or LibTorch's reads before that, was not
  // checked. Checked at once all the same: what goes to another device or through a function of map_location, and
  // the parts of sparse, nested and quantized tensors, which are read to make them.
  on_use,
};

struct LoadOptions {
  // The live objects to restore into, for plugins that restore in place; others ignore it. Borrowed: it and what it
  // names must outlive the call. Plugins whose requires_state_on_load() is true always get one from the Trainer.
  State* state = nullptr;

  // The device on which loaded tensors arrive.
  MapLocation map_location{};

  // No plugin ever executes code from a file. `true`: a file that holds more than tensors and primitive values is an
  // UnsafeError that lists what it held. Unset or `false`: such parts are read as inert data where the format can,
  // and refused where it can't.
  std::optional<bool> weights_only{};

  // True: tensors that will be on the CPU are not read but mapped from the file, where format and storage can do that
  // (PythonCheckpointIO, SafetensorsCheckpointIO; LocalStorage): their bytes come from the disk when they are first
  // touched, and changes to them stay in memory. The file must not be shortened by others while they live. Unless
  // `verify` is false it is read once, to be checked: now or later, as `verify_mapped` says. Formats that cannot map
  // ignore it.
  bool mmap = false;

  // False: tensors' contents are not compared with the file's checksums (PythonCheckpointIO). Mapping a file costs the
  // same whatever its size then. Damage to them goes unseen; structure and bounds are checked all the same.
  bool verify = true;

  // False: a restore into `state` reads contents once, and checks them as it writes them (PythonCheckpointIO,
  // SafetensorsCheckpointIO). It is faster, but damage may be found when the state has changed: the CorruptError then
  // says that the state is no longer to be used. Names, shapes and dtypes are compared before anything changes.
  bool transactional = true;

  // Which tensors to load; empty: all. Asked once for each by its name, keys and indices joined by dots:
  // "state_dict.fc.weight". Those to which it says false are missing from dicts, and None in lists and tuples, also for
  // `state`. PythonCheckpointIO and SafetensorsCheckpointIO read and check the bytes of the others alone where the
  // storage can map files (LocalStorage), TorchCheckpointIO all. Tensors within an Opaque are always there.
  std::function<bool(const std::string& name)> filter{};

  // True: a restore into `state` takes tensors of another dtype than the live ones' and converts them on the way, as
  // Tensor::copy_ does, in pieces of some MiB; Python's load_state_dict does so without being asked. Only where the
  // kind of number is kept or widened, in the order bool, integer, floating, complex (torch.can_cast): within a kind
  // precision and range may be lost. Other dtypes, quantized and sparse tensors stay a MismatchError, which names all.
  // Plugins that do not restore in place ignore it, as they do `state`: State::load_state_dict has it too.
  bool convert_dtypes = false;

  // When the contents of mapped tensors are compared with the file's checksums.
  VerifyMapped verify_mapped = VerifyMapped::at_once;
};

// Threads: unless a subclass says otherwise, one thread at a time per object.
class CheckpointIO {
 public:
  CheckpointIO() = default;
  CheckpointIO(const CheckpointIO&) = delete;
  CheckpointIO& operator=(const CheckpointIO&) = delete;
  virtual ~CheckpointIO() = default;

  // Saves `checkpoint` as `path`: a file path or a URI, as the plugin's storage understands it.
  // On return the checkpoint can be loaded again, and a reader never saw it half written. On any error nothing was
  // lost: what `path` held before is whole. Tensors are read during the call only; afterwards the caller may change
  // them. `storage_options` are the plugin's own; one that knows none throws TypeError if any are given.
  // Errors: IoError (full disk, no permission, a folder in the way), TypeError and ValueError for what cannot be
  // saved.
  virtual void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                               const std::optional<Dict>& storage_options = std::nullopt) = 0;

  // Loads the checkpoint at `path`. Returns what the caller must still apply: all of it from a plugin that does not
  // restore in place, or nullopt if all of it was restored into options.state.
  // Errors: NotFoundError "Checkpoint file not found: PATH"; CorruptError; UnsafeError; UnsupportedError;
  // MismatchError if it doesn't fit options.state. On any of them options.state is as it was, but for an IoError that
  // says otherwise and for what options.transactional allows.
  virtual std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options = {}) = 0;

  // Removes the checkpoint at `path`, a folder with all that is in it. Nothing there is not an error.
  virtual void remove_checkpoint(const std::string& path) = 0;

  // True if load_checkpoint needs options.state. The default implementation says false.
  virtual bool requires_state_on_load() const { return false; }

  // As save_checkpoint, but may return while the save goes on. Until the future is Staged the checkpoint's tensors
  // must not change (its containers and plain values may); to have it wait for that too, call save_checkpoint. What
  // goes wrong after the return is thrown by the future's wait(), or else by the plugin's next call or teardown.
  // The default implementation saves before it returns.
  virtual SaveFuture async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                           const std::optional<Dict>& storage_options = std::nullopt);

  // As async_save_checkpoint, of a checkpoint that the caller gives away: pass std::move(checkpoint). A plugin that
  // saves in the background need not look at it before it returns, so that the call takes as long for thousands of
  // tensors as for one, and tells what cannot be saved by the future alone. Until Staged the tensors must not change,
  // neither in their elements nor in shape or storage: such a change may go unnoticed. The Trainer saves in this way
  // alone, so who overrides async_save_checkpoint of a plugin that has its own one of these overrides both.
  // The default implementation calls async_save_checkpoint.
  virtual SaveFuture hand_over_checkpoint(Checkpoint checkpoint, const std::string& path,
                                          const std::optional<Dict>& storage_options = std::nullopt);

  // True if async_save_checkpoint returns before the checkpoint is Staged. The default implementation says false.
  virtual bool saves_asynchronously() const { return false; }

  // Says that checkpoints with tensors like those of this one will be saved, so that memory for them can be made ready
  // in the background. Reads no tensor. The Trainer calls it as a fit starts, and once the optimizers have made their
  // state. The default implementation does nothing.
  virtual void reserve(const Checkpoint& checkpoint);

  // Finishes what is pending and lets go of resources; the Trainer calls it after each run, failed ones too. The
  // plugin may be used again afterwards. The default implementation does nothing.
  virtual void teardown() {}
};

}  // namespace ckptio
