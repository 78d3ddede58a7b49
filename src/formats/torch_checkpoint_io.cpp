// SPDX-License-Identifier: Apache-2.0
#include "ckptio/formats/torch_checkpoint_io.h"

#include <c10/util/Type.h>
#include <torch/serialize.h>

#include <cctype>
#include <exception>
#include <typeinfo>

#include "codec/torchscript_code.h"
#include "codec/zip_reader.h"
#include "formats/storage_mapper.h"
#include "formats/torch_archive.h"

namespace ckptio {

namespace {

// LibTorch's writer ends the process if it cannot finish a file (PyTorchStreamWriter's destructor). So it is told that
// every write succeeded; the first error is kept, nothing more is written, and rethrow() brings the error out.
class UnfailingWriter {
 public:
  explicit UnfailingWriter(WritableFile& file) : file_(file) {}

  std::size_t write(const void* data, std::size_t n_bytes) noexcept {
    if (error_) return n_bytes;
    try {
      file_.append(data, n_bytes);
    } catch (...) {
      error_ = std::current_exception();
    }
    return n_bytes;
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  WritableFile& file_;
  std::exception_ptr error_;
};

// The same for reading: what the storage threw must not pass through LibTorch's reader, which is C in part.
class UnfailingReader {
 public:
  explicit UnfailingReader(const RandomAccessFile& file) : file_(file) {}

  std::size_t read(std::uint64_t offset, void* destination, std::size_t n_bytes) noexcept {
    try {
      file_.read_at(offset, destination, n_bytes);
      return n_bytes;
    } catch (...) {
      error_ = std::current_exception();
      return 0;
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const RandomAccessFile& file_;
  std::exception_ptr error_;
};

std::string in_lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Which file within the archive a record is: its name without the archive's own folder. In lower case, as LibTorch
// looks names up without regard to it.
std::string name_in_archive(const detail::ZipRecord& record) {
  return in_lower_case(record.name.substr(record.name.find('/') + 1));
}

void require_torch_archive(const detail::ZipReader& zip, const std::string& path) {
  bool has_data = false;
  bool has_constants = false;
  for (const auto& record : zip.records()) {
    const std::string name = name_in_archive(record);
    has_data = has_data || name == "data.pkl";
    has_constants = has_constants || name == "constants.pkl";
    if (name == "model.json") throw UnsupportedError("'" + path + "': an archive of LibTorch before 1.4");
  }
  if (has_data && has_constants) return;
  if (has_data) throw UnsupportedError("'" + path + "': written by Python's torch.save, not by LibTorch's");
  throw CorruptError("'" + path + "': a zip archive, but not a checkpoint: it has no data.pkl and constants.pkl");
}

// "MyCheckpointIO", without namespaces.
std::string class_name(const std::type_info& type) {
  const std::string full = c10::demangle(type.name());
  const std::size_t scope = full.rfind("::");
  return scope == std::string::npos ? full : full.substr(scope + 2);
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : "; ") + item;
  return text;
}

// UnsafeError for whatever would run while LibTorch reads the archive.
void refuse_code(const detail::ZipReader& zip, const std::string& path, bool weights_only) {
  std::vector<std::string> unsafe;
  std::vector<std::string> functions;
  for (const auto& record : zip.records()) {
    const std::string name = name_in_archive(record);
    if (name.starts_with("code/") && !name.ends_with(".debug_pkl")) {
      const auto text = zip.read(record);
      auto code = detail::examine_torchscript(record.name, {reinterpret_cast<const char*>(text.data()), text.size()});
      unsafe.insert(unsafe.end(), code.unsafe.begin(), code.unsafe.end());
      functions.insert(functions.end(), code.functions.begin(), code.functions.end());
    } else if (name.ends_with(".pkl")) {
      const auto pickle = zip.read(record);
      const auto bound = detail::torchbind_class_in({reinterpret_cast<const char*>(pickle.data()), pickle.size()});
      if (!bound.empty()) unsafe.push_back(record.name + ": holds an object of TorchBind class " + bound);
    }
  }
  if (!unsafe.empty()) {
    throw UnsafeError("'" + path + "': refused, as reading it would execute code: " + joined(unsafe));
  }
  if (weights_only && !functions.empty()) {
    throw UnsafeError("'" + path + "': holds more than tensors and primitive values (weights_only): functions " +
                      joined(functions));
  }
}

detail::ByteSource source_of(const RandomAccessFile& file, const std::string& path) {
  return {path, file.size(), [&file](std::uint64_t offset, void* destination, std::size_t n_bytes) {
            file.read_at(offset, destination, n_bytes);
          }};
}

// torch::load, onto the CPU.
detail::TorchArchive load_archive(const RandomAccessFile& file, const std::string& path) {
  UnfailingReader reader(file);
  detail::TorchArchive archive;
  try {
    torch::load(
        archive,
        [&reader](std::uint64_t offset, void* to, std::size_t n_bytes) { return reader.read(offset, to, n_bytes); },
        [&file] { return static_cast<std::size_t>(file.size()); }, c10::Device(c10::kCPU));
  } catch (const UnsupportedError& error) {
    throw UnsupportedError("'" + path + "': " + error.what());
  } catch (const Error& error) {
    throw CorruptError("'" + path + "': " + error.what());
  } catch (const c10::Error& error) {
    reader.rethrow();
    throw CorruptError("'" + path + "': LibTorch cannot read it: " + error.what_without_backtrace());
  } catch (const std::exception& error) {  // its parser of TorchScript has exceptions of its own
    reader.rethrow();
    throw CorruptError("'" + path + "': LibTorch cannot read it: " + error.what());
  }
  return archive;
}

}  // namespace

TorchCheckpointIO::TorchCheckpointIO() : TorchCheckpointIO(default_storage()) {}

TorchCheckpointIO::TorchCheckpointIO(std::shared_ptr<StorageBackend> storage) : storage_(std::move(storage)) {
  if (!storage_) throw ValueError("TorchCheckpointIO: the storage is null");
}

TorchCheckpointIO::~TorchCheckpointIO() = default;

void TorchCheckpointIO::save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                        const std::optional<Dict>& storage_options) {
  if (storage_options) {
    throw TypeError(
        "`Trainer.save_checkpoint(..., storage_options=...)` with `storage_options` arg is not supported for `" +
        class_name(typeid(*this)) +
        "`. Please implement your custom `CheckpointIO` to define how you'd like to use "
        "`storage_options`.");
  }
  const auto file = storage_->create(path);
  UnfailingWriter writer(*file);
  try {
    torch::save(checkpoint, [&writer](const void* data, std::size_t n_bytes) { return writer.write(data, n_bytes); });
  } catch (const c10::Error& error) {
    writer.rethrow();
    throw ValueError("cannot save '" + path + "': LibTorch cannot write it: " + error.what_without_backtrace());
  }
  writer.rethrow();
  file->commit();
}

std::optional<Checkpoint> TorchCheckpointIO::load_checkpoint(const std::string& path, const LoadOptions& options) {
  std::unique_ptr<RandomAccessFile> file;
  try {
    file = storage_->open(path);
  } catch (const NotFoundError&) {
    throw NotFoundError("Checkpoint file not found: " + path);
  }
  const detail::ZipReader zip(source_of(*file, path));
  require_torch_archive(zip, path);
  zip.verify_all();
  refuse_code(zip, path, options.weights_only.value_or(false));
  detail::TorchArchive archive = load_archive(*file, path);
  Value checkpoint(std::move(archive.checkpoint));
  detail::map_storages(checkpoint, options.map_location, archive.locations);
  return std::move(checkpoint.mutable_as<Dict>());
}

void TorchCheckpointIO::remove_checkpoint(const std::string& path) { storage_->remove(path); }

}  // namespace ckptio
