// SPDX-License-Identifier: Apache-2.0
// Saving: (1) the checkpoint becomes inert objects, which name the storages of its tensors; (2) the whole file is laid
// out; what cannot be saved has been told by now, and nothing written; (3) records are appended in the file's order,
// storages from where they are, each followed by its CRC; (4) the directory; (5) the storage commits.
// Loading: the archive's structure and objects are checked whole, then the storages are read, then Values are made.
#include "ckptio/formats/python_checkpoint_io.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "codec/archive.h"
#include "codec/checksum.h"
#include "codec/python_layout.h"
#include "codec/refuse_opaque.h"
#include "formats/archive_storages.h"
#include "formats/checkpoint_file.h"
#include "formats/in_place_restore.h"
#include "formats/object_to_value.h"
#include "formats/value_to_object.h"
#include "value/tensor_storage.h"

namespace ckptio {

namespace {

using detail::ObjectBuilder;
using detail::PythonLayout;

constexpr std::size_t kSerializationIdDigits = 40;

// Appends to a file: small pieces gathered, so that thousands of small tensors cost a few calls; large ones from where
// they are, each part while it is still in the processor's cache from its checksum.
class RecordWriter {
 public:
  explicit RecordWriter(WritableFile& file) : file_(file) { gathered_.reserve(kGatherBytes); }

  void append(const std::string& bytes) { append(bytes.data(), bytes.size()); }

  // Returns the CRC-32 of the bytes.
  std::uint32_t append_checked(const void* data, std::size_t n_bytes) {
    const auto* bytes = static_cast<const char*>(data);
    std::uint32_t crc = 0;
    for (std::size_t done = 0; done < n_bytes;) {
      const std::size_t n_part = std::min(n_bytes - done, kGatherBytes);
      crc = detail::crc32(crc, bytes + done, n_part);
      append(bytes + done, n_part);
      done += n_part;
    }
    return crc;
  }

  void flush() {
    if (!gathered_.empty()) file_.append(gathered_.data(), gathered_.size());
    gathered_.clear();
  }

 private:
  static constexpr std::size_t kGatherBytes = std::size_t{1} << 20;
  static constexpr std::size_t kSmallBytes = std::size_t{128} << 10;

  void append(const char* data, std::size_t n_bytes) {
    if (gathered_.size() + n_bytes > kGatherBytes) flush();
    if (n_bytes >= kSmallBytes) {
      flush();
      file_.append(data, n_bytes);
    } else {
      gathered_.insert(gathered_.end(), data, data + n_bytes);
    }
  }

  WritableFile& file_;
  std::vector<char> gathered_;
};

std::uint32_t append_storage(RecordWriter& writer, const c10::Storage& storage) {
  if (storage.device().is_cpu()) return writer.append_checked(storage.data(), storage.nbytes());
  const at::Tensor bytes = detail::bytes_of(storage).cpu();
  return writer.append_checked(bytes.const_data_ptr(), bytes.nbytes());
}

void append_records(RecordWriter& writer, const PythonLayout& layout, const std::vector<c10::Storage>& storages) {
  std::vector<std::uint32_t> crcs;
  for (std::size_t i = 0; i < layout.zip().records().size(); ++i) {
    writer.append(layout.zip().header(i));
    if (const auto storage = layout.storage_of(i)) {
      crcs.push_back(append_storage(writer, storages[*storage]));
    } else {
      const std::string content = layout.content_of(i, crcs);
      crcs.push_back(writer.append_checked(content.data(), content.size()));
    }
    writer.append(layout.zip().descriptor(i, crcs.back()));
  }
  writer.append(layout.zip().directory(crcs));
  writer.flush();
}

bool is_serialization_id(const std::string& text) {
  return text.size() == kSerializationIdDigits &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// What was read of a file, before it is a Value.
struct LoadedFile {
  std::shared_ptr<detail::OpaqueContext> context;
  const detail::Object* root = nullptr;
};

detail::Archive open_archive(const RandomAccessFile& file, const std::string& path, const LoadOptions& options) {
  detail::Archive archive = detail::Archive::open(detail::source_of(file, path));
  if (archive.format() == detail::ArchiveFormat::safetensors) {
    throw UnsupportedError("'" + path + "': " + detail::describe(archive.format()) +
                           ": SafetensorsCheckpointIO reads it");
  }
  if (options.weights_only.value_or(false)) detail::refuse_opaque(archive.graph(), path);
  return archive;
}

LoadedFile load_file(const StorageBackend& storage, const std::string& path, const LoadOptions& options) {
  const auto file = detail::open_checkpoint_file(storage, path);
  detail::Archive archive = open_archive(*file, path, options);
  std::vector<c10::Storage> storages = detail::read_storages(archive, *file, options);
  LoadedFile loaded;
  loaded.context = detail::make_opaque_context(path, archive.take_graph(), std::move(storages));
  loaded.root = loaded.context->graph.root;
  return loaded;
}

Value checkpoint_value(const LoadedFile& file, const std::string& path) {
  Value value = detail::opened_to_value(file.context, *file.root);
  if (!value.is<Dict>()) {
    throw TypeError("'" + path + "': holds a " + std::string(value.type_name()) +
                    ", and a checkpoint is a dict; load_value() reads it");
  }
  return value;
}

std::optional<Checkpoint> restore(const StorageBackend& storage, const std::string& path, const LoadOptions& options) {
  if (!options.map_location.is_none()) {
    throw TypeError("load '" + path +
                    "': with `state`, tensors go to the devices of the live ones; `map_location` "
                    "says nothing then");
  }
  const auto opened = detail::open_checkpoint_file(storage, path);
  detail::Archive archive = open_archive(*opened, path, options);
  detail::InPlaceRestore restore(archive, *opened);
  LoadedFile file;
  file.context = detail::make_opaque_context(path, archive.take_graph(), restore.storages());
  file.root = file.context->graph.root;
  Value value = checkpoint_value(file, path);
  detail::release_unneeded(*file.context, value);
  if (restore.own_storages_of(*file.context)) {  // what unknown objects hold stays with them
    value = checkpoint_value(file, path);
    detail::release_unneeded(*file.context, value);
  }
  Dict rest = restore.own(detail::load_through(restore, *options.state, value.as<Dict>()));
  if (rest.empty()) return std::nullopt;
  return rest;
}

}  // namespace

PythonCheckpointIO::PythonCheckpointIO() : PythonCheckpointIO(default_storage()) {}

PythonCheckpointIO::PythonCheckpointIO(std::shared_ptr<StorageBackend> storage) {
  if (!storage) throw ValueError("PythonCheckpointIO: the storage is null");
  options_.storage = std::move(storage);
}

PythonCheckpointIO::PythonCheckpointIO(PythonCheckpointIOOptions options) : options_(std::move(options)) {
  if (!options_.storage) options_.storage = default_storage();
  if (!options_.serialization_id.empty() && !is_serialization_id(options_.serialization_id)) {
    throw ValueError("PythonCheckpointIO: serialization_id is '" + options_.serialization_id +
                     "', expected 40 decimal digits");
  }
}

PythonCheckpointIO::~PythonCheckpointIO() = default;

void PythonCheckpointIO::save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                         const std::optional<Dict>& storage_options) {
  detail::refuse_storage_options(storage_options, typeid(*this));
  save_value(checkpoint, path);
}

void PythonCheckpointIO::save_value(const Value& value, const std::string& path) {
  try {
    ObjectBuilder builder;
    const detail::Object* root = builder.add(value);
    builder.finish();
    const PythonLayout layout(builder.graph(), *root, {.serialization_id = options_.serialization_id});
    const auto file = options_.storage->create(path);
    RecordWriter writer(*file);
    append_records(writer, layout, builder.storages());
    detail::commit(*file);
  } catch (const c10::Error& error) {  // of a device that does not give its bytes
    throw ValueError("cannot save '" + path + "': " + error.what_without_backtrace());
  }
}

Value PythonCheckpointIO::load_value(const std::string& path, const LoadOptions& options) {
  const LoadedFile file = load_file(*options_.storage, path, options);
  Value value = detail::object_to_value(file.context, *file.root);
  detail::release_unneeded(*file.context, value);
  return value;
}

std::optional<Checkpoint> PythonCheckpointIO::load_checkpoint(const std::string& path, const LoadOptions& options) {
  if (options.state != nullptr) return restore(*options_.storage, path, options);
  const LoadedFile file = load_file(*options_.storage, path, options);
  Value value = checkpoint_value(file, path);
  detail::release_unneeded(*file.context, value);
  return std::move(value.mutable_as<Dict>());
}

bool PythonCheckpointIO::requires_state_on_load() const { return options_.restore_in_place; }

void PythonCheckpointIO::remove_checkpoint(const std::string& path) { options_.storage->remove(path); }

}  // namespace ckptio
