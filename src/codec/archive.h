// SPDX-License-Identifier: Apache-2.0
// Archive: a checkpoint file of any format that we read ourselves: its objects as inert data, and its storages' bytes.
//
//   torch.save's zip file   data.pkl and data/N; any order, padding, deflate and byte order
//   torch.save's old file   five pickles, then the storages (before torch 1.6)
//   LibTorch's archive      torch::save of tensors, modules, optimizers, Checkpoints; TorchScript files, their data
//   safetensors             header and data
//
// Opening reads and checks everything but the storages' contents: structure, bounds, geometry, sizes of records against
// those of storages. Contents are checked against their CRC-32 as they are read (safetensors and the old format have
// none). Indices that tensors hold as data are checked by check_index_values (index_values.h).
// Memory: the objects; storages are read where the caller wants them. Threads: any number may read from one Archive if
// the source allows it. Errors: CorruptError, UnsupportedError; messages name the file, the record, the byte, what was
// found and expected.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codec/byte_source.h"
#include "codec/object.h"
#include "codec/zip_reader.h"

namespace ckptio::detail {

enum class ArchiveFormat : std::uint8_t { python, python_legacy, libtorch, safetensors };

const char* describe(ArchiveFormat format);  // "Python's torch.save (zip)" ...

// Which format the first bytes (and for a zip its names) show; nullopt where it is none of them. A file that begins as
// a zip but is none counts as Python's: opening it says what is wrong.
std::optional<ArchiveFormat> sniff_format(const ByteSource& source);

// Where a storage's bytes stand.
struct StorageRecord {
  std::string name{};                // of one in no zip record: see Archive::storage_name
  std::uint64_t data_offset = 0;     // in the file; of a stored record the bytes themselves, to map or to read at once
  std::uint64_t n_bytes = 0;         // of the storage, decompressed
  bool is_stored = true;             // false: deflated
  bool swap_bytes = false;           // saved in the other byte order than this machine's
  std::uint8_t swap_size = 1;        // how many bytes then change places: 4 of a float32
  std::optional<std::uint32_t> crc;  // none: there is nothing to check against
  std::int64_t zip_record = -1;      // index into zip()->records(), or -1
  bool is_checked = false;           // was held against its CRC on opening: ScanSource::check_contents
};

struct TorchScriptClass;  // torchscript_code.h

// A dict of the graph that is the attributes of a TorchScript module.
struct ScriptModule {
  const Object* object = nullptr;
  std::shared_ptr<const TorchScriptClass> type;
};

// What the reader of a format finds in a file: python_file.h, legacy_file.h, libtorch_file.h, safetensors_file.h.
struct ArchiveContents {
  ObjectGraph graph;
  std::vector<StorageRecord> storages;                        // one for each of graph.storages
  std::vector<std::pair<std::string, std::string>> metadata;  // safetensors
  std::vector<ScriptModule> script_modules;                   // LibTorch's archives
  bool is_checkpoint = false;                                 // one of those, and TorchCheckpointIO's
};

class Archive {
 public:
  // Picks the format by the bytes. UnsupportedError where it is none, which says what was found.
  static Archive open(ByteSource source);
  static Archive open(ByteSource source, ArchiveFormat format);

  ArchiveFormat format() const { return format_; }
  const ByteSource& source() const { return source_; }
  const ObjectGraph& graph() const { return contents_.graph; }
  const Object& root() const { return *contents_.graph.root; }
  // The objects, for those who keep them longer than the file. Afterwards there are neither graph() nor root().
  ObjectGraph take_graph() { return std::move(contents_.graph); }
  // One for each of graph().storages.
  const std::vector<StorageRecord>& storages() const { return contents_.storages; }
  // For messages: "archive/data/0".
  std::string storage_name(std::size_t index) const;
  // safetensors: the header's __metadata__, in its order.
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return contents_.metadata; }
  // LibTorch's archives: the modules, in the order in which they were made (libtorch_file.h names them), and whether
  // TorchCheckpointIO wrote it; the root is then the Checkpoint.
  const std::vector<ScriptModule>& script_modules() const { return contents_.script_modules; }
  bool is_checkpoint() const { return contents_.is_checkpoint; }
  // The archive as a zip, or null.
  const ZipReader* zip() const { return zip_.get(); }

  // Reads storage `index` into `destination`, which has room for its n_bytes: decompressed, checked, in this machine's
  // byte order. On error it holds anything.
  void read_storage(std::size_t index, void* destination) const;

  // The same piece by piece, in order, with a few MB of memory: pieces are multiples of 16 bytes but for the last. An
  // error may come after the last piece: only then the CRC is known.
  using Piece = std::function<void(const void* data, std::size_t n_bytes)>;
  void read_storage_pieces(std::size_t index, const Piece& use) const;

  // CorruptError unless `found`, the CRC-32 of the storage's bytes as the caller read them, is what it must be.
  void check_crc(std::size_t index, std::uint32_t found) const;

  // Checks the content as read_storage does, with a few MB of memory. False where there was nothing to check against.
  bool verify_storage(std::size_t index) const;

 private:
  Archive() = default;
  static Archive open_zip(ByteSource source, ArchiveFormat format, std::unique_ptr<ZipReader> zip);
  ByteSource source_;
  ArchiveFormat format_ = ArchiveFormat::python;
  std::unique_ptr<ZipReader> zip_;
  ArchiveContents contents_;
};

}  // namespace ckptio::detail
