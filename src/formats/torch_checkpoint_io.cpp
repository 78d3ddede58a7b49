// SPDX-License-Identifier: Apache-2.0
#include "ckptio/formats/torch_checkpoint_io.h"

#include <torch/serialize.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <set>
#include <typeinfo>

#include "codec/archive.h"
#include "codec/python_file.h"
#include "codec/refuse_opaque.h"
#include "codec/torchscript_code.h"
#include "codec/zip_reader.h"
#include "formats/checkpoint_file.h"
#include "formats/object_to_value.h"
#include "formats/opaque_context.h"
#include "formats/storage_mapper.h"
#include "formats/storage_reader.h"
#include "formats/torch_archive.h"
#include "value/filter_tensors.h"

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
  return in_lower_case(std::string(record.name.substr(record.name.find('/') + 1)));
}

// LibTorch reads an archive that has this record by what it says, and nothing else in it.
void refuse_old_archive(const detail::ZipReader& zip, const std::string& path) {
  for (const auto& record : zip.records()) {
    if (name_in_archive(record) == "model.json") {
      throw UnsupportedError("'" + path + "': an archive of LibTorch before 1.4");
    }
  }
}

// The archive, read and checked whole but for the tensors' bytes.
detail::Archive open_archive(const RandomAccessFile& file, const std::string& path) {
  const detail::ByteSource source = detail::source_of(file, path);
  const auto format = detail::sniff_format(source);
  if (format == detail::ArchiveFormat::safetensors) {
    throw UnsupportedError("'" + path + "': " + detail::describe(*format) + ": SafetensorsCheckpointIO reads it");
  }
  try {
    // What is no format at all: the reader of zip archives says what it found.
    detail::Archive archive = detail::Archive::open(source, format.value_or(detail::ArchiveFormat::python));
    if (archive.zip() != nullptr) refuse_old_archive(*archive.zip(), path);
    return archive;
  } catch (const CorruptError&) {
    if (format == detail::ArchiveFormat::python) refuse_old_archive(detail::ZipReader(source), path);
    throw;
  }
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : "; ") + item;
  return text;
}

// What LibTorch would run while it reads an archive, and what its code holds.
struct Code {
  std::vector<std::string> unsafe;
  std::vector<std::string> functions;
  std::vector<detail::TorchScriptClass> classes;
  std::uint64_t n_bytes = 0;
};

// Archive::open has bounded the code, and what the two pickles take.
Code find_code(const detail::ZipReader& zip) {
  Code found;
  for (const auto& record : zip.records()) {
    const std::string name = name_in_archive(record);
    if (name.starts_with("code/") && !name.ends_with(".debug_pkl")) {
      const auto text = zip.read(record);
      auto code = detail::examine_torchscript(std::string(record.name),
                                              {reinterpret_cast<const char*>(text.data()), text.size()});
      found.unsafe.insert(found.unsafe.end(), code.unsafe.begin(), code.unsafe.end());
      found.functions.insert(found.functions.end(), code.functions.begin(), code.functions.end());
      found.classes.insert(found.classes.end(), code.classes.begin(), code.classes.end());
      found.n_bytes += text.size();
    } else if (name == "data.pkl" || name == "constants.pkl") {
      const auto pickle = zip.read(record);
      const auto bound = detail::torchbind_class_in({reinterpret_cast<const char*>(pickle.data()), pickle.size()});
      if (!bound.empty())
        found.unsafe.push_back(std::string(record.name) + ": holds an object of TorchBind class " + bound);
    }
  }
  return found;
}

void refuse_code(const Code& code, const std::string& path, std::optional<bool> weights_only) {
  // With `false` what would run is read as data.
  if (!code.unsafe.empty() && weights_only.value_or(true)) {
    throw UnsafeError("'" + path + "': refused, as torch::load would execute code: " + joined(code.unsafe) +
                      "; weights_only = false reads it as data");
  }
  if (weights_only.value_or(false) && !code.functions.empty()) {
    throw UnsafeError("'" + path + "': holds more than tensors and primitive values (weights_only): functions " +
                      joined(code.functions));
  }
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
  reader.rethrow();  // LibTorch goes on after some reads that fail
  return archive;
}

// LibTorch's reader trusts what it reads: nested types and chains of classes exhaust its stack, a class of an
// unexpected kind crashes it, and a storage that is named a thousand times is read as often. So it gets archives alone
// that are as save_checkpoint writes them.

// One class of attributes, in a few lines.
bool has_our_code(const Code& code) {
  constexpr std::uint64_t kMaxBytes = 512;
  return code.unsafe.empty() && code.functions.empty() && code.n_bytes <= kMaxBytes && code.classes.size() == 1 &&
         code.classes[0].base == "Module";
}

bool is_readable_pickle(const detail::ZipReader& zip, const detail::ZipRecord& record) {
  try {
    detail::ObjectGraph graph;
    detail::read_pickle_record(zip, record, detail::PickleDialect::libtorch, graph);
    return graph.storages.empty();
  } catch (const Error&) {
    return false;
  }
}

bool has_our_records(const detail::ZipReader& zip) {
  static const std::set<std::string> kNames{"data.pkl", "version", "byteorder", "code/__torch__.py",
                                            ".data/serialization_id"};
  static const std::set<std::string> kPickles{"constants.pkl", "code/__torch__.py.debug_pkl"};  // hold no tensors
  return std::all_of(zip.records().begin(), zip.records().end(), [&zip](const detail::ZipRecord& record) {
    const std::string name = name_in_archive(record);
    if (kPickles.count(name) != 0) return is_readable_pickle(zip, record);
    return kNames.count(name) != 0 || name.starts_with("data/");
  });
}

// Each once, but for those that stand by themselves as well.
bool names_storages_once(const detail::ObjectGraph& graph) {
  constexpr std::uint64_t kAllowedBytes = std::uint64_t{16} << 20;
  std::uint64_t n_bytes = 0, n_named = 0;
  for (const auto& storage : graph.storages) n_bytes += storage.n_bytes;
  for (const auto& object : graph.objects) {
    const auto* named = object.get<detail::ObjectStorage>();
    if (named != nullptr) n_named += graph.storages[named->storage].n_bytes;
    if (n_named > 2 * n_bytes + kAllowedBytes) return false;
  }
  return true;
}

bool can_torch_load(const detail::Archive& archive, const Code& code) {
  return archive.is_checkpoint() && has_our_code(code) && has_our_records(*archive.zip()) &&
         names_storages_once(archive.graph()) && detail::find_opaque(&archive.root()).empty();
}

Checkpoint load_by_torch(const RandomAccessFile& file, const std::string& path, const MapLocation& map_location) {
  detail::TorchArchive archive = load_archive(file, path);
  Value checkpoint(std::move(archive.checkpoint));
  detail::map_storages(checkpoint, map_location, archive.locations);
  return std::move(checkpoint.mutable_as<Dict>());
}

// By our own reader.
Checkpoint load_by_codec(detail::Archive archive, const RandomAccessFile& file, const std::string& path,
                         const LoadOptions& options) {
  if (options.weights_only.value_or(false)) detail::refuse_opaque(archive.graph(), path);
  detail::IoEngine engine;
  std::vector<c10::Storage> storages = detail::StorageReader(archive, file, engine, options.verify).read_all(options);
  const auto context = detail::make_opaque_context(path, archive.take_graph(), std::move(storages));
  Value value = detail::opened_to_value(context, *context->graph.root);
  if (!value.is<Dict>()) {
    throw TypeError("'" + path + "': holds a " + std::string(value.type_name()) + ", and a checkpoint is a dict");
  }
  detail::release_unneeded(*context, value);
  return std::move(value.mutable_as<Dict>());
}

}  // namespace

TorchCheckpointIO::TorchCheckpointIO() : TorchCheckpointIO(default_storage()) {}

TorchCheckpointIO::TorchCheckpointIO(std::shared_ptr<StorageBackend> storage) : storage_(std::move(storage)) {
  if (!storage_) throw ValueError("TorchCheckpointIO: the storage is null");
}

TorchCheckpointIO::~TorchCheckpointIO() = default;

void TorchCheckpointIO::save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                        const std::optional<Dict>& storage_options) {
  detail::refuse_storage_options(storage_options, typeid(*this));
  const auto file = storage_->create(path);
  UnfailingWriter writer(*file);
  try {
    torch::save(checkpoint, [&writer](const void* data, std::size_t n_bytes) { return writer.write(data, n_bytes); });
  } catch (const c10::Error& error) {
    writer.rethrow();
    throw ValueError("cannot save '" + path + "': LibTorch cannot write it: " + error.what_without_backtrace());
  } catch (const ValueError& error) {
    throw ValueError("cannot save '" + path + "': " + error.what());
  }
  writer.rethrow();
  detail::commit(*file);
}

std::optional<Checkpoint> TorchCheckpointIO::load_checkpoint(const std::string& path, const LoadOptions& options) {
  const auto file = detail::open_checkpoint_file(*storage_, path);
  detail::Archive archive = open_archive(*file, path);
  Code code;
  if (archive.format() == detail::ArchiveFormat::libtorch) {
    archive.zip()->verify_all();
    code = find_code(*archive.zip());
    refuse_code(code, path, options.weights_only);
  }
  Value checkpoint = can_torch_load(archive, code) ? load_by_torch(*file, path, options.map_location)
                                                   : load_by_codec(std::move(archive), *file, path, options);
  if (options.filter) detail::filter_tensors(checkpoint, options.filter);
  return std::move(checkpoint.mutable_as<Dict>());
}

void TorchCheckpointIO::remove_checkpoint(const std::string& path) { storage_->remove(path); }

}  // namespace ckptio
