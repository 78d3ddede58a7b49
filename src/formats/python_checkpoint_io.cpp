// SPDX-License-Identifier: Apache-2.0
// Saving: (1) the checkpoint is pickled, which names the storages of its tensors: straight from the Values, or, where
// it holds more than plain values and dense tensors, by way of inert objects; (2) the whole file is laid out; what
// cannot be saved has been told by now, and nothing written; (3) the engine writes the records, storages from where
// they are, and behind them the directory; (4) the storage commits. Loading: the archive's structure and objects are
// checked whole, then the storages are read, then Values are made.
#include "ckptio/formats/python_checkpoint_io.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codec/archive.h"
#include "codec/checksum.h"
#include "codec/limits.h"
#include "codec/pickle_reader.h"
#include "codec/python_layout.h"
#include "codec/refuse_opaque.h"
#include "engine/io_engine.h"
#include "formats/checkpoint_file.h"
#include "formats/file_table.h"
#include "formats/in_place_restore.h"
#include "formats/object_to_value.h"
#include "formats/plain_pickle.h"
#include "formats/storage_reader.h"
#include "formats/tensor_record.h"
#include "formats/value_to_object.h"
#include "value/filter_tensors.h"
#include "value/mapped_record.h"
#include "value/tensor_storage.h"

namespace ckptio {

namespace {

using detail::IoEngine;
using detail::ObjectBuilder;
using detail::PythonLayout;
using detail::SavedStorage;
using detail::WritePlan;
using detail::WriteRecord;
using detail::ZipLayout;

constexpr std::size_t kSerializationIdDigits = 40;

// The records whose content is known now; the last one, the serialization id, is made of the CRCs of the others, and is
// the end of the file with the directory.
class FilePlan {
 public:
  // `storages`: by the layout's numbers.
  FilePlan(const PythonLayout& layout, const std::vector<SavedStorage>& storages) : layout_(layout) {
    const std::vector<ZipLayout::Record>& records = layout.zip().records();
    plan_.records.resize(records.size() - 1);
    for (std::size_t i = 0; i + 1 < records.size(); ++i) {
      WriteRecord& record = plan_.records[i];
      record.begin_offset = records[i].header_offset;
      record.data_offset = records[i].data_offset;
      record.end_offset = records[i].end_offset;
      if (const auto storage = layout.storage_of(i)) {
        set_content(record, storages[*storage]);
      } else {
        record.n_bytes = layout.fixed_content_of(i).size();
        record.data = layout.fixed_content_of(i).data();
      }
    }
    plan_.head = [&zip = layout.zip()](std::size_t i, void* to) { zip.put_header(i, to); };
    plan_.tail = [&zip = layout.zip()](std::size_t i, std::uint32_t crc, void* to) { zip.put_descriptor(i, crc, to); };
    plan_.end = [this](const std::vector<std::uint32_t>& crcs) { return end(crcs); };
    plan_.file_size = layout.zip().file_size();
  }
  FilePlan(const FilePlan&) = delete;
  FilePlan& operator=(const FilePlan&) = delete;

  const WritePlan& plan() const { return plan_; }

 private:
  static void set_content(WriteRecord& record, const SavedStorage& saved) {
    record.n_bytes = saved.n_bytes;
    record.data = saved.data;
    if (saved.n_bytes == 0 || saved.data != nullptr) return;
    detail::require_memory(*saved.storage);
    detail::set_data(record, detail::bytes_of(*saved.storage));
  }

  std::string end(std::vector<std::uint32_t> crcs) const {
    const ZipLayout& zip = layout_.zip();
    const std::size_t last = crcs.size();
    const std::string id = layout_.content_of(last, crcs);
    crcs.push_back(detail::crc32(0, id.data(), id.size()));
    const ZipLayout::Record& record = zip.records()[last];
    std::string bytes(zip.file_size() - record.header_offset, '\0');
    const auto at = [&](std::uint64_t offset) { return bytes.data() + (offset - record.header_offset); };
    zip.put_header(last, bytes.data());
    std::copy(id.begin(), id.end(), at(record.data_offset));
    zip.put_descriptor(last, crcs.back(), at(record.data_offset + record.size));
    zip.put_directory(crcs, at(zip.directory_offset()));
    return bytes;
  }

  const PythonLayout& layout_;
  WritePlan plan_;
};

bool is_serialization_id(const std::string& text) {
  return text.size() == kSerializationIdDigits &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

detail::Archive open_archive(const RandomAccessFile& file, IoEngine& engine, const std::string& path,
                             const LoadOptions& options) {
  // All is checked before anything is changed: then as soon as it is seen.
  const bool check_first = options.state != nullptr && options.transactional && options.verify && !options.filter;
  detail::Archive archive = detail::Archive::open(detail::source_of(file, path, engine, check_first));
  if (archive.format() == detail::ArchiveFormat::safetensors) {
    throw UnsupportedError("'" + path + "': " + detail::describe(archive.format()) +
                           ": SafetensorsCheckpointIO reads it");
  }
  if (options.weights_only.value_or(false)) detail::refuse_opaque(archive.graph(), path);
  return archive;
}

std::vector<std::uint64_t> sizes_of(const std::vector<SavedStorage>& storages) {
  std::vector<std::uint64_t> n_bytes(storages.size());
  std::transform(storages.begin(), storages.end(), n_bytes.begin(), [](const auto& saved) { return saved.n_bytes; });
  return n_bytes;
}

// Refuses what a reader would refuse for its size. `n_objects`: as many as the pickle makes, or more.
void require_readable(std::string_view pickle, std::size_t n_objects) {
  constexpr std::uint64_t kMostBytesOfObject = 1024, kMostBytesOfByte = 6;  // that a reader sets aside
  if (n_objects * kMostBytesOfObject + pickle.size() * kMostBytesOfByte <= detail::kMaxGraphBytes) return;
  try {
    detail::ObjectGraph graph;
    detail::read_pickle(graph, detail::memory_source("", pickle.data(), pickle.size()), {});
  } catch (const Error& error) {
    throw ValueError(std::string("too much beside the tensors: ") + error.what());
  }
}

// `storages`: by the layout's numbers.
void write_file(const PythonLayout& layout, const std::vector<SavedStorage>& storages, StorageBackend& storage,
                IoEngine& engine, const std::string& path) {
  const auto file = storage.create(path);
  engine.write(*file, FilePlan(layout, storages).plan());
  detail::commit(*file);
}

// `content`: a Value or a Dict.
template <class Content>
void save(const Content& content, const PythonCheckpointIOOptions& options, IoEngine& engine, const std::string& path) {
  const detail::PythonLayoutOptions layout_options{.serialization_id = options.serialization_id};
  try {
    if (auto pickle = detail::write_plain_pickle(content)) {
      require_readable(pickle->bytes, pickle->n_values);
      const PythonLayout layout(std::move(pickle->bytes), sizes_of(pickle->storages), layout_options);
      return write_file(layout, pickle->storages, *options.storage, engine, path);
    }
    ObjectBuilder builder;
    const detail::Object* root = builder.add(content);
    builder.finish();
    const std::vector<SavedStorage> storages(builder.storages().begin(), builder.storages().end());
    const PythonLayout layout(builder.graph(), *root, layout_options);
    require_readable(layout.fixed_content_of(0), builder.graph().objects.size());
    write_file(layout, storages, *options.storage, engine, path);
  } catch (const c10::Error& error) {  // of a device that does not give its bytes
    throw ValueError("cannot save '" + path + "': " + error.what_without_backtrace());
  } catch (const ValueError& error) {
    throw ValueError("cannot save '" + path + "': " + error.what());
  }
}

using ToValue = Value (*)(const std::shared_ptr<const detail::OpaqueContext>&, const detail::Object&);

// The whole file as a Value.
Value load_all(const RandomAccessFile& file, IoEngine& engine, const std::string& path, const LoadOptions& options,
               ToValue to_value) {
  detail::Archive archive = open_archive(file, engine, path, options);
  std::vector<c10::Storage> storages = detail::StorageReader(archive, file, engine, options.verify).read_all(options);
  const auto context = detail::make_opaque_context(path, archive.take_graph(), std::move(storages));
  Value value = to_value(context, *context->graph.root);
  detail::release_unneeded(*context, value);
  return value;
}

// What options.state leaves of a file whose tables it takes as they stand there. ValuesNeeded, and nothing was changed,
// where it does not.
Value load_tables(detail::InPlaceRestore restore, const std::shared_ptr<detail::OpaqueContext>& context,
                  const LoadOptions& options, const detail::FileTables& tables) {
  const detail::Object& root = *context->graph.root;
  const std::vector<bool> left_out = detail::items_of(tables, root);
  for (const auto& [name, entries] : tables) restore.add_table(name, entries);
  context->tensors.clear();
  context->storages = restore.make_storages(detail::storages_of(context->graph, root, left_out));
  const auto make_value = [&] {
    Value value = detail::opened_to_value(context, root, left_out);
    detail::release_unneeded(*context, value);
    return value;
  };
  Value value = make_value();
  if (restore.own_storages_of(*context)) value = make_value();
  value = detail::load_through(restore, *options.state, value.as<Dict>(), options.convert_dtypes);
  return restore.own_rest(value);
}

// What options.filter and options.state leave of it. Contents are read once it is known which, and where they go.
Value load_part(const RandomAccessFile& file, IoEngine& engine, const std::string& path, const LoadOptions& options,
                ToValue to_value) {
  detail::Archive archive = open_archive(file, engine, path, options);
  const detail::StorageReader reader(archive, file, engine, options.verify);
  const auto context = detail::make_opaque_context(path, archive.take_graph(), {});
  const std::shared_ptr<void> mapped = file.map();
  detail::FileTables tables;
  if (options.state != nullptr && !options.filter) {
    tables = detail::find_tables(*context->graph.root, options.state->keys(), archive.storages());
  }
  while (!tables.empty()) {
    try {
      return load_tables({reader, context->graph.storages, mapped, options}, context, options, tables);
    } catch (const detail::ValuesNeeded& needed) {
      tables.erase(needed.name);
    }
  }
  detail::InPlaceRestore restore(reader, context->graph.storages, mapped, options);
  context->tensors.clear();
  context->storages = restore.make_storages();
  const auto filter = options.filter ? detail::asking_once(options.filter) : nullptr;
  const auto make_value = [&] {
    Value value = to_value(context, *context->graph.root);
    detail::release_unneeded(*context, value);
    if (filter) detail::filter_tensors(value, filter);
    return value;
  };
  Value value = make_value();
  // What unknown objects hold stays with them.
  const bool some_own = restore.own_storages_of(*context);
  const bool all_own = filter && restore.own_unless_plain(*context, value);
  if (some_own || all_own) value = make_value();
  if (filter) restore.restrict_to(value);
  if (options.state != nullptr)
    value = detail::load_through(restore, *options.state, value.as<Dict>(), options.convert_dtypes);
  return restore.own_rest(value);
}

// Refuses before contents are read.
Value checkpoint_value(const std::shared_ptr<const detail::OpaqueContext>& context, const detail::Object& root) {
  Value value = detail::opened_to_value(context, root);
  if (!value.is<Dict>()) {
    throw TypeError("'" + context->where + "': holds a " + std::string(value.type_name()) +
                    ", and a checkpoint is a dict; load_value() reads it");
  }
  return value;
}

}  // namespace

PythonCheckpointIO::PythonCheckpointIO() : PythonCheckpointIO(default_storage()) {}

PythonCheckpointIO::PythonCheckpointIO(std::shared_ptr<StorageBackend> storage)
    : PythonCheckpointIO(PythonCheckpointIOOptions{.storage = storage}) {
  if (!storage) throw ValueError("PythonCheckpointIO: the storage is null");
}

PythonCheckpointIO::PythonCheckpointIO(PythonCheckpointIOOptions options)
    : options_(std::move(options)), engine_(std::make_unique<IoEngine>(detail::IoEngineOptions{options_.n_threads})) {
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
  save(checkpoint, options_, *engine_, path);
}

void PythonCheckpointIO::save_value(const Value& value, const std::string& path) {
  save(value, options_, *engine_, path);
}

Value PythonCheckpointIO::load_value(const std::string& path, const LoadOptions& options) {
  const auto file = detail::open_checkpoint_file(*options_.storage, path);
  const auto load = options.filter ? load_part : load_all;
  LoadOptions of_file = options;
  of_file.state = nullptr;
  return load(*file, *engine_, path, of_file, detail::object_to_value);
}

std::optional<Checkpoint> PythonCheckpointIO::load_checkpoint(const std::string& path, const LoadOptions& options) {
  detail::refuse_map_location_of_state(options, path);
  const auto file = detail::open_checkpoint_file(*options_.storage, path);
  const bool is_part = options.state != nullptr || options.filter;
  const auto load = is_part ? load_part : load_all;
  Value value = load(*file, *engine_, path, options, checkpoint_value);
  Dict& checkpoint = value.mutable_as<Dict>();
  if (options.state != nullptr && checkpoint.empty()) return std::nullopt;
  return std::move(checkpoint);
}

bool PythonCheckpointIO::requires_state_on_load() const { return options_.restore_in_place; }

void PythonCheckpointIO::remove_checkpoint(const std::string& path) { options_.storage->remove(path); }

void PythonCheckpointIO::teardown() { engine_->release(); }

}  // namespace ckptio
