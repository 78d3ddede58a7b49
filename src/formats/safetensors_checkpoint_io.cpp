// SPDX-License-Identifier: Apache-2.0
// Saving: (1) the tree of the checkpoint is walked once: tensors get names, the rest becomes text; (2) of tensors that
// share memory one is kept; (3) the file is planned; what cannot be kept has been told by now, and nothing written;
// (4) the engine writes header and tensors, and the storage commits.
// Loading: the header is checked whole, each tensor is read into a storage of its own, and the text, or the names,
// say where it goes.
#include "ckptio/formats/safetensors_checkpoint_io.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <new>
#include <unordered_map>

#include "ckptio/verify.h"
#include "codec/archive.h"
#include "codec/json_text.h"
#include "codec/safetensors_file.h"
#include "codec/zip_directory.h"
#include "engine/io_engine.h"
#include "formats/checkpoint_file.h"
#include "formats/in_place_restore.h"
#include "formats/safetensors_sharing.h"
#include "formats/safetensors_structure.h"
#include "formats/storage_reader.h"
#include "formats/tensor_record.h"
#include "hash/hash_table.h"
#include "value/filter_tensors.h"
#include "value/tensor_storage.h"

namespace ckptio {

namespace {

using detail::Archive;
using detail::NamedTensor;
using detail::ObjectTensor;
using detail::Problems;
using detail::SafetensorsMetadata;
using detail::TensorSharing;
using detail::ViewOf;

void require_json(const std::string& action, const std::string& path) {
  if (detail::has_json()) return;
  throw UnsupportedError("cannot " + action + " '" + path +
                         "': this ckptio was built without nlohmann/json, which "
                         "safetensors files need");
}

const std::string* find_metadata(const SafetensorsMetadata& metadata, std::string_view key) {
  const auto found =
      std::find_if(metadata.begin(), metadata.end(), [&](const auto& item) { return item.first == key; });
  return found == metadata.end() ? nullptr : &found->second;
}

// The names that other tensors of the file have too, by the library's convention: an entry of the metadata that maps a
// name that is no tensor's to one that is.
template <class Metadata, class HasTensor>
std::vector<std::pair<std::string, std::string>> aliases_in(const Metadata& metadata, HasTensor has_tensor) {
  std::vector<std::pair<std::string, std::string>> aliases;
  for (const auto& [key, value] : metadata) {
    if (!has_tensor(key) && has_tensor(value)) aliases.emplace_back(key, value);
  }
  return aliases;
}

// Puts the path before the message of a ValueError.
template <class Body>
auto naming(const std::string& path, Body body) {
  try {
    return body();
  } catch (const ValueError& error) {
    throw ValueError("cannot save '" + path + "': " + error.what());
  }
}

// A checkpoint, made ready for the file.
struct Draft {
  std::vector<NamedTensor> tensors;  // those to write
  std::optional<SafetensorsMetadata> metadata;
};

// True if a reader who knows the library's convention alone finds the tensors' other names, and no more.
bool tells_aliases(const std::map<std::string, std::string>& metadata, const std::vector<NamedTensor>& tensors,
                   const TensorSharing& sharing) {
  if (metadata.empty() && sharing.kept.size() == tensors.size()) return true;  // there are no other names
  std::map<std::string, std::string> expected;
  std::unordered_map<std::string_view, bool> is_kept;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const ViewOf& view = sharing.views[i];
    if (!view.is_same) return false;
    is_kept[tensors[i].name] = view.name == tensors[i].name;
    if (view.name != tensors[i].name) expected[tensors[i].name] = view.name;
  }
  const auto has_tensor = [&](const std::string& name) {
    const auto found = is_kept.find(name);
    return found != is_kept.end() && found->second;
  };
  const auto found = aliases_in(metadata, has_tensor);
  return std::map<std::string, std::string>(found.begin(), found.end()) == expected;
}

Draft make_draft(const Checkpoint& checkpoint, const std::string& path, const SafetensorsCheckpointIOOptions& options) {
  Problems problems;
  detail::StructureDraft structure(checkpoint, options.plain_values, problems);
  const std::vector<NamedTensor>& tensors = structure.tensors();
  const TensorSharing sharing = detail::find_sharing(tensors, problems);
  problems.raise(path);
  for (const std::size_t index : sharing.kept) verify(tensors[index].tensor);
  std::map<std::string, std::string> metadata = options.metadata;
  for (std::size_t i = 0; i < tensors.size(); ++i) {  // the user's own entries stay
    if (sharing.views[i].name != tensors[i].name) metadata.emplace(tensors[i].name, sharing.views[i].name);
  }
  Draft draft;
  const bool is_plain = structure.is_flat() && tells_aliases(metadata, tensors, sharing);
  if (!metadata.empty() || !is_plain) draft.metadata.emplace(metadata.begin(), metadata.end());
  if (!is_plain) {
    draft.metadata->emplace_back(detail::kStructureKey, naming(path, [&] { return structure.text(sharing.views); }));
  }
  std::vector<NamedTensor> all = structure.take_tensors();
  draft.tensors.reserve(sharing.kept.size());
  for (const std::size_t index : sharing.kept) draft.tensors.push_back(std::move(all[index]));
  return draft;
}

void write(Draft draft, StorageBackend& storage, detail::IoEngine& engine, const std::string& path) {
  std::vector<detail::SafetensorsTensor> described;
  described.reserve(draft.tensors.size());
  for (NamedTensor& tensor : draft.tensors) {
    const c10::IntArrayRef sizes = tensor.tensor.sizes();
    const auto dtype = static_cast<detail::DType>(tensor.tensor.scalar_type());
    described.push_back({std::move(tensor.name), dtype, {sizes.data(), sizes.size()}});
  }
  const auto layout = naming(path, [&] { return detail::lay_out_safetensors(described, draft.metadata); });
  detail::WritePlan plan;
  plan.records.reserve(layout.order.size() + 1);
  plan.records.push_back({.data_offset = 0, .n_bytes = layout.head.size(), .data = layout.head.data()});
  plan.records.back().end_offset = layout.head.size();
  for (const std::size_t index : layout.order) {
    const std::uint64_t offset = plan.records.back().end_offset;
    detail::WriteRecord& record = plan.records.emplace_back();
    detail::set_data(record, draft.tensors[index].tensor);
    record.begin_offset = record.data_offset = offset;
    record.end_offset = offset + record.n_bytes;
  }
  plan.file_size = plan.records.back().end_offset;
  const auto file = storage.create(path);
  engine.write(*file, plan);
  detail::commit(*file);
}

using StorageOf = std::function<const c10::Storage&(std::size_t index)>;

// The tensors of a file, by name.
class FileTensors : public detail::TensorMaker {
 public:
  FileTensors(const Archive& archive, StorageOf storage_of, const std::string& path)
      : archive_(archive), storage_of_(std::move(storage_of)), path_(path) {
    const auto& items = archive.root().get<detail::ObjectDict>()->items;
    tensors_.reserve(items.size());
    by_name_.reserve(items.size());
    for (const auto& [name, tensor] : items) {
      const std::string& text = name->get<detail::ObjectString>()->utf8;
      by_name_.find_or_add(detail::hash_of(text), static_cast<std::uint32_t>(tensors_.size()),
                           [](std::uint32_t) { return false; });
      tensors_.push_back({text, tensor->get<ObjectTensor>()});
    }
  }

  bool has(const std::string& name) const { return find(name) != nullptr; }

  at::Tensor make(const ViewOf& view) override {
    const std::uint32_t* found = find(view.name);
    if (found == nullptr) fail("there is no tensor " + detail::quote_name(view.name));
    tensors_[*found].is_used = true;
    const ObjectTensor& whole = *tensors_[*found].tensor;
    const c10::Storage& storage = storage_of_(whole.storage);
    if (view.is_same) return make(storage, static_cast<c10::ScalarType>(whole.dtype), 0, whole.sizes, whole.strides);
    check_inside(view, storage.nbytes());
    return make(storage, view.dtype, view.offset, view.sizes, view.strides);
  }

  // As take(), of all of a file that says nothing of other names.
  virtual bool take_all() { return false; }

  // CorruptError where a tensor was never asked for.
  void require_all_used() const {
    for (const FileTensor& tensor : tensors_) {
      if (!tensor.is_used) fail("it says nothing of the tensor " + detail::quote_name(tensor.name));
    }
  }

 protected:
  // Those of a dict, which count as asked for. Nullopt where one is not there, or can stand in no table.
  std::optional<detail::FileEntries> entries_of(const detail::TensorDict& dict) {
    detail::FileEntries entries;
    entries.reserve(dict.keys.size());
    for (const std::string& key : dict.keys) {
      const std::uint32_t* found = find(detail::child_name(dict.name, key));
      if (found == nullptr || !can_be_entry(tensors_[*found])) return std::nullopt;
      tensors_[*found].is_used = true;
      const std::string_view name = tensors_[*found].name;
      entries.push_back({name.substr(name.size() - key.size()), tensors_[*found].tensor});
    }
    return entries;
  }

  std::optional<detail::FileEntries> all_entries() const {
    detail::FileEntries entries;
    entries.reserve(tensors_.size());
    for (const FileTensor& tensor : tensors_) {
      if (!can_be_entry(tensor)) return std::nullopt;
      entries.push_back({tensor.name, tensor.tensor});
    }
    return entries;
  }

 private:
  struct FileTensor {
    std::string_view name;  // where the archive has it
    const ObjectTensor* tensor;
    bool is_used = false;
  };

  bool can_be_entry(const FileTensor& tensor) const {
    return detail::FileTable::can_hold(*tensor.tensor, archive_.storages());
  }

  const std::uint32_t* find(std::string_view name) const {
    return by_name_.find(detail::hash_of(name), [&](std::uint32_t index) { return tensors_[index].name == name; });
  }

  static at::Tensor make(const c10::Storage& storage, c10::ScalarType dtype, std::int64_t offset,
                         c10::IntArrayRef sizes, c10::IntArrayRef strides) {
    return detail::make_view(storage, dtype, offset, sizes, strides);
  }

  // Sizes and strides come from the file. A view has no more elements than there are, so nothing here overflows.
  void check_inside(const ViewOf& view, std::uint64_t n_bytes) const {
    const std::uint64_t n_items = n_bytes / c10::elementSize(view.dtype);
    bool is_inside = view.offset >= 0 && view.sizes.size() == view.strides.size() && view.sizes.size() <= 64;
    std::uint64_t last = static_cast<std::uint64_t>(view.offset), n_elements = 1;
    for (std::size_t i = 0; is_inside && i < view.sizes.size(); ++i) {
      const std::int64_t size = view.sizes[i], stride = view.strides[i];
      is_inside =
          last < n_items && size >= 1 && stride >= 0 && static_cast<std::uint64_t>(size) <= n_items / n_elements;
      if (!is_inside) break;
      const auto steps = static_cast<std::uint64_t>(size - 1);
      n_elements *= steps + 1;
      is_inside = steps == 0 || static_cast<std::uint64_t>(stride) <= (n_items - last) / steps;
      last += steps * static_cast<std::uint64_t>(stride);
    }
    if (!is_inside || last >= n_items) fail("a view is not inside the tensor " + detail::quote_name(view.name));
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw CorruptError("cannot read '" + path_ + "': metadata " + detail::quote_name(detail::kStructureKey) + ": " +
                       what);
  }

  const Archive& archive_;
  StorageOf storage_of_;
  std::vector<FileTensor> tensors_;
  detail::HashTable<std::uint32_t> by_name_;  // indices
  const std::string& path_;
};

// Those of a checkpoint that is restored in place: dicts of them go there without Values.
class RestoredTensors final : public FileTensors {
 public:
  // `names`: of dicts that may do so; `all`: the whole file may.
  RestoredTensors(const Archive& archive, detail::InPlaceRestore& restore, const std::vector<std::string>& names,
                  bool all, const std::string& path)
      : FileTensors(
            archive, [&restore](std::size_t index) -> auto& { return restore.storage(index); }, path),
        restore_(restore),
        names_(names),
        all_(all) {}

  bool take(const std::string& key, const detail::TensorDict& dict) override {
    return detail::can_be_table(key, names_) && add_table(key, entries_of(dict));
  }
  bool take_all() override { return all_ && add_table("", all_entries()); }

 private:
  bool add_table(const std::string& key, std::optional<detail::FileEntries> entries) {
    if (!entries || entries->empty()) return false;
    restore_.add_table(key, *std::move(entries));
    return true;
  }

  detail::InPlaceRestore& restore_;
  const std::vector<std::string>& names_;
  const bool all_;
};

Checkpoint flat_checkpoint(const Archive& archive, FileTensors& tensors) {
  const auto has_tensor = [&](const std::string& name) { return tensors.has(name); };
  const auto aliases = aliases_in(archive.metadata(), has_tensor);
  Checkpoint checkpoint;
  if (aliases.empty() && tensors.take_all()) return checkpoint;
  for (const auto& [key, tensor] : archive.root().get<detail::ObjectDict>()->items) {
    const std::string& name = key->get<detail::ObjectString>()->utf8;
    checkpoint[name] = tensors.make({name});
  }
  for (const auto& [name, kept] : aliases) checkpoint[name] = tensors.make({kept});
  return checkpoint;
}

Checkpoint make_checkpoint(const Archive& archive, FileTensors& tensors, const std::string& path) {
  const std::string* structure = find_metadata(archive.metadata(), detail::kStructureKey);
  if (structure == nullptr) return flat_checkpoint(archive, tensors);
  Checkpoint checkpoint = detail::read_structure(path, *structure, tensors);
  tensors.require_all_used();
  return checkpoint;
}

Checkpoint load_all(const Archive& archive, const detail::StorageReader& reader, const LoadOptions& options,
                    const std::string& path) {
  const std::vector<c10::Storage> storages = reader.read_all(options);
  FileTensors tensors(
      archive, [&](std::size_t index) -> auto& { return storages[index]; }, path);
  return make_checkpoint(archive, tensors, path);
}

// What options.filter and options.state leave of it.
std::optional<Checkpoint> load_part(const Archive& archive, const detail::StorageReader& reader,
                                    const std::shared_ptr<void>& mapped, const LoadOptions& options,
                                    const std::string& path) {
  const bool can_take = options.state != nullptr && !options.filter;
  std::vector<std::string> names = can_take ? options.state->keys() : std::vector<std::string>();
  for (bool all = can_take && names.empty();; all = false) {
    detail::InPlaceRestore restore(reader, archive.graph().storages, mapped, options);
    RestoredTensors tensors(archive, restore, names, all, path);
    try {
      Value checkpoint = make_checkpoint(archive, tensors, path);
      if (options.filter) detail::filter_tensors(checkpoint, options.filter);
      if (options.state != nullptr) {
        checkpoint = detail::load_through(restore, *options.state, checkpoint.as<Dict>(), options.convert_dtypes);
        if (checkpoint.as<Dict>().empty()) return std::nullopt;
      }
      return std::move(restore.own_rest(checkpoint).mutable_as<Dict>());
    } catch (const detail::ValuesNeeded& needed) {
      std::erase(names, needed.name);
    }
  }
}

Archive open_archive(const RandomAccessFile& file, const std::string& path) {
  require_json("read", path);
  return Archive::open(detail::source_of(file, path), detail::ArchiveFormat::safetensors);
}

// What LibTorch and the standard library throw, as errors of ours.
template <class Body>
auto translated(const std::string& action, const std::string& path, Body body) {
  try {
    return body();
  } catch (const c10::Error& error) {  // on loading: there is no memory for what was found right
    const std::string message = "cannot " + action + " '" + path + "': " + error.what_without_backtrace();
    if (action == "save") throw ValueError(message);
    throw IoError(message);
  } catch (const std::bad_alloc&) {
    throw IoError("cannot " + action + " '" + path + "': out of memory", ENOMEM);
  }
}

}  // namespace

SafetensorsCheckpointIO::SafetensorsCheckpointIO() : SafetensorsCheckpointIO(default_storage()) {}

SafetensorsCheckpointIO::SafetensorsCheckpointIO(std::shared_ptr<StorageBackend> storage)
    : SafetensorsCheckpointIO(SafetensorsCheckpointIOOptions{.storage = storage}) {
  if (!storage) throw ValueError("SafetensorsCheckpointIO: the storage is null");
}

SafetensorsCheckpointIO::SafetensorsCheckpointIO(SafetensorsCheckpointIOOptions options)
    : options_(std::move(options)),
      engine_(std::make_unique<detail::IoEngine>(detail::IoEngineOptions{options_.n_threads})) {
  if (!options_.storage) options_.storage = default_storage();
  if (options_.metadata.contains(std::string(detail::kStructureKey))) {
    throw ValueError("SafetensorsCheckpointIO: 'ckptio.structure' is not free for metadata: it is written by ckptio");
  }
}

SafetensorsCheckpointIO::~SafetensorsCheckpointIO() = default;

void SafetensorsCheckpointIO::save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                              const std::optional<Dict>& storage_options) {
  detail::refuse_storage_options(storage_options, typeid(*this));
  require_json("save", path);
  translated("save", path, [&] { write(make_draft(checkpoint, path, options_), *options_.storage, *engine_, path); });
}

std::optional<Checkpoint> SafetensorsCheckpointIO::load_checkpoint(const std::string& path,
                                                                   const LoadOptions& options) {
  detail::refuse_map_location_of_state(options, path);
  const auto file = detail::open_checkpoint_file(*options_.storage, path);
  return translated("read", path, [&]() -> std::optional<Checkpoint> {
    const Archive archive = open_archive(*file, path);
    const detail::StorageReader reader(archive, *file, *engine_, options.verify);
    if (options.state == nullptr && !options.filter) return load_all(archive, reader, options, path);
    return load_part(archive, reader, file->map(), options, path);
  });
}

bool SafetensorsCheckpointIO::requires_state_on_load() const { return options_.restore_in_place; }

void SafetensorsCheckpointIO::teardown() { engine_->release(); }

std::map<std::string, std::string> SafetensorsCheckpointIO::load_metadata(const std::string& path) const {
  const auto file = detail::open_checkpoint_file(*options_.storage, path);
  const Archive archive = open_archive(*file, path);
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : archive.metadata()) {
    if (key != detail::kStructureKey) metadata[key] = value;
  }
  return metadata;
}

void SafetensorsCheckpointIO::remove_checkpoint(const std::string& path) { options_.storage->remove(path); }

}  // namespace ckptio
