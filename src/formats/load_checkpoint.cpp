// SPDX-License-Identifier: Apache-2.0
#include "ckptio/load_checkpoint.h"

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "codec/archive.h"
#include "formats/checkpoint_file.h"

namespace ckptio {

namespace {

detail::ArchiveFormat format_of(const StorageBackend& storage, const std::string& path) {
  const auto file = detail::open_checkpoint_file(storage, path);
  const auto format = detail::sniff_format(detail::source_of(*file, path));
  // What is no format at all: Python's reader says what it found.
  return format.value_or(detail::ArchiveFormat::python);
}

// The plugins share what they use; this one lives as long as the call.
std::shared_ptr<StorageBackend> borrowed(StorageBackend& storage) { return {std::shared_ptr<void>(), &storage}; }

std::unique_ptr<CheckpointIO> plugin_for(detail::ArchiveFormat format, StorageBackend& storage) {
  switch (format) {
    case detail::ArchiveFormat::libtorch:
      return std::make_unique<TorchCheckpointIO>(borrowed(storage));
    case detail::ArchiveFormat::safetensors:
      return std::make_unique<SafetensorsCheckpointIO>(borrowed(storage));
    default:
      return std::make_unique<PythonCheckpointIO>(borrowed(storage));
  }
}

}  // namespace

Checkpoint load_checkpoint(StorageBackend& storage, const std::string& path, const LoadOptions& options) {
  LoadOptions of_file = options;
  of_file.state = nullptr;
  return *plugin_for(format_of(storage, path), storage)->load_checkpoint(path, of_file);
}

Checkpoint load_checkpoint(const std::string& path, const LoadOptions& options) {
  return load_checkpoint(*default_storage(), path, options);
}

Value load_value(StorageBackend& storage, const std::string& path, const LoadOptions& options) {
  const auto plugin = plugin_for(format_of(storage, path), storage);
  if (auto* python = dynamic_cast<PythonCheckpointIO*>(plugin.get())) return python->load_value(path, options);
  LoadOptions of_file = options;
  of_file.state = nullptr;
  return *plugin->load_checkpoint(path, of_file);
}

Value load_value(const std::string& path, const LoadOptions& options) {
  return load_value(*default_storage(), path, options);
}

}  // namespace ckptio
