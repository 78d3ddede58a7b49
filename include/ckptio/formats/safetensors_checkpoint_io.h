// SPDX-License-Identifier: Apache-2.0
// SafetensorsCheckpointIO: the format of Hugging Face's safetensors library: tensors by name, nothing that could run,
// and no copy on the way into memory that is mapped.
//
//   ckptio::SafetensorsCheckpointIO io({.metadata = {{"format", "pt"}}});
//   io.save_checkpoint(ckptio::state_dict(*model), "model.safetensors");   // safetensors.torch.load_file reads it
//
// A flat Dict of tensors becomes exactly the file that the library writes for it; that it was an OrderedDict, as a
// Python state_dict is, is not kept. Of any other checkpoint
//   tensors   are named by their path, joined with dots: state_dict.fc.weight, optimizer_states.0.state.0.exp_avg (with
//             "#2" behind a name that is taken);
//   the rest  goes into the metadata entry "ckptio.structure", JSON {"version": 2, "checkpoint": ...}, so that loading
//             gives the same checkpoint back. There a tensor is {"$tensor": name} (or {"$view": [name, dtype, offset,
//             sizes, strides]}, a view of that one's memory), and a dict of nothing but tensors {"$tensors": [path,
//             keys]}, where the path joined with each key is a tensor's name (new in version 2); None, bool, int, float,
//             str, list and dict with str keys are JSON's own; others have one key that begins with '$': "$tuple",
//             "$dict" (a list of [key, value]), "$bytes" and "$bytearray" (hexadecimal), "$int" (beyond 64 bits),
//             "$float" (nan, inf, -inf), "$complex", "$set", "$frozenset", "$size", "$dtype", "$device",
//             "$ordered_dict" and "$counter" ([dict, attributes]).
// A file that holds no such entry, another library's, is loaded as a flat Dict.
//
// Tensors that share memory are kept once, as save_model of the library does: under the first name, in alphabetical
// order, whose tensor covers what the others see; the metadata maps each other name to it. Loaded, they share memory
// again, the library's files too. Strides and requires_grad are not kept, as the format has neither.
// Format facts: safetensors 0.8.0, its README and safetensors/torch.py. It has no checksums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "ckptio/checkpoint_io.h"
#include "ckptio/storage/storage_backend.h"

namespace ckptio {

namespace detail {
class IoEngine;
}

// What becomes of a checkpoint's values that are no tensors: epoch, hyperparameters, ...
enum class PlainValues : std::uint8_t {
  metadata,  // kept in the entry "ckptio.structure"
  refuse,    // an error that lists each: for files that are to hold tensors alone
};

struct SafetensorsCheckpointIOOptions {
  // Where checkpoints are kept; null: LocalStorage, durable.
  std::shared_ptr<StorageBackend> storage{};
  PlainValues plain_values = PlainValues::metadata;
  // Written as the file's `__metadata__`, for other programs: {"format", "pt"} is what transformers asks for.
  std::map<std::string, std::string> metadata{};
  // True: requires_state_on_load() is true, so that the Trainer has checkpoints restored in place.
  bool restore_in_place = false;
  // How many threads write and read a file side by side, with the one that calls: 1 starts none. They are not
  // LibTorch's, and wait for the next call until teardown(). 0: as many as the processor runs at once, up to 4.
  std::size_t n_threads = 0;
};

// Threads: any number may call at once (a StorageBackend allows it); their reading and writing takes turns.
class SafetensorsCheckpointIO : public CheckpointIO {
 public:
  // Keeps checkpoints on the local disk: LocalStorage, durable.
  SafetensorsCheckpointIO();
  // ValueError for a storage that is null, and for metadata called "ckptio.structure".
  explicit SafetensorsCheckpointIO(std::shared_ptr<StorageBackend> storage);
  explicit SafetensorsCheckpointIO(SafetensorsCheckpointIOOptions options);
  ~SafetensorsCheckpointIO() override;

  // Writes and commits as the storage does: a reader finds the old checkpoint or the new one. Parent folders are made.
  // Tensors are written from where they are, in pieces where they are not contiguous or on another device.
  // TypeError: values that the file cannot hold, all of them with their places (an Opaque, a storage, a layout; a
  // tensor that is sparse, quantized, nested or meta, or whose dtype the format lacks: complex32, complex128; with
  // PlainValues::refuse everything else); or if `storage_options` are given, even empty ones. ValueError: tensors that
  // overlap without one that covers the others, text that is not UTF-8; all of them too.
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options = std::nullopt) override;

  // Checks the whole header, which describes every byte of the file, before it makes a tensor. With options.mmap
  // tensors are the file's pages, but for those that stand at an address that does not fit their dtype. With
  // options.state, tensors go from the file straight into those of its modules and optimizers, after names, shapes and
  // dtypes have been compared; returns what the state has no name for, or nullopt where that is nothing. An IoError
  // meanwhile says so: the state is then no longer to be used. TypeError if options.map_location is given too.
  // `weights_only` asks for no more than the format gives. CorruptError: not such a file, truncated, or against a rule
  // of the format. UnsupportedError: a dtype that PyTorch lacks (F6_E2M3, F6_E3M2, unknown ones), a "ckptio.structure"
  // of a newer version, a build without nlohmann/json.
  std::optional<Checkpoint> load_checkpoint(const std::string& path, const LoadOptions& options = {}) override;

  // The file's metadata, without "ckptio.structure": those of SafetensorsCheckpointIOOptions, and the names of tensors
  // that share another's memory. Errors as load_checkpoint.
  std::map<std::string, std::string> load_metadata(const std::string& path) const;

  void remove_checkpoint(const std::string& path) override;
  bool requires_state_on_load() const override;
  // Ends the threads.
  void teardown() override;

 private:
  SafetensorsCheckpointIOOptions options_;
  std::unique_ptr<detail::IoEngine> engine_;
};

}  // namespace ckptio
