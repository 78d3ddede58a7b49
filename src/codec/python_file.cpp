// SPDX-License-Identifier: Apache-2.0
#include "codec/python_file.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "ckptio/error.h"
#include "codec/limits.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

// What PyTorch 2.13 reads (caffe2/serialize/versions.h).
constexpr std::uint64_t kMinVersion = 1, kMaxVersion = 10;

// A record that holds a word or a number.
constexpr std::uint64_t kMaxSmallRecordBytes = 64;

// A stored pickle up to here is read once, into memory; a larger one is checked first, then read where it stands.
constexpr std::uint64_t kMaxPickleInMemory = std::uint64_t{32} << 20;

// A deflated pickle is held decompressed. PyTorch never deflates one; other tools do with small files.
constexpr std::uint64_t kMaxDeflatedPickleBytes = std::uint64_t{128} << 20;

std::string where_of(const ZipRecord& record) { return "record " + quote_name(record.name); }

bool starts_with_folded(std::string_view text, std::string_view prefix) {
  if (text.starts_with(prefix)) return true;
  return text.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), text.begin(),
                                                    [](char a, char b) { return fold_case(a) == fold_case(b); });
}

std::string read_small(const ZipReader& zip, const ZipRecord& record) {
  if (record.size > kMaxSmallRecordBytes) {
    throw_corrupt(
        zip.source(), where_of(record), record.data_offset,
        std::to_string(record.size) + " bytes found, at most " + std::to_string(kMaxSmallRecordBytes) + " expected");
  }
  const auto bytes = zip.read(record);
  return {bytes.begin(), bytes.end()};
}

// How the numbers of a storage lie in memory: as many bytes change places as the type says. An untyped one has the
// type of the tensors that use it (Python leaves its bytes as they are, so that a file from a machine of the other
// order gives wrong values there).
std::vector<std::uint8_t> swap_sizes(const ObjectGraph& graph, std::size_t first, const ZipReader& zip) {
  std::vector<std::uint8_t> sizes(graph.storages.size(), 0);  // 0: not known
  for (std::size_t i = first; i < sizes.size(); ++i) {
    if (!graph.storages[i].untyped) sizes[i] = dtype_info(graph.storages[i].dtype).swap_size;
  }
  for (const Object& object : graph.objects) {
    const auto* tensor = object.get<ObjectTensor>();
    if (tensor == nullptr || tensor->storage >= sizes.size() || tensor->storage < first) continue;
    const std::uint8_t wanted = dtype_info(tensor->dtype).swap_size;
    std::uint8_t& size = sizes[tensor->storage];
    if (size != 0 && size != wanted) {
      throw UnsupportedError("cannot read '" + zip.source().name + "': storage " +
                             quote_name(graph.storages[tensor->storage].key) +
                             " is in big-endian byte order and used by tensors of several types: which bytes change "
                             "places cannot be known");
    }
    size = wanted;
  }
  for (std::uint8_t& size : sizes) size = std::max<std::uint8_t>(size, 1);
  return sizes;
}

}  // namespace

std::string zip_prefix(const ZipReader& zip) {
  if (zip.records().empty()) {
    throw CorruptError("cannot read '" + zip.source().name + "': a zip archive without records found, a checkpoint's " +
                       "expected");
  }
  const std::string_view first = zip.records().front().name;
  const std::size_t slash = first.find('/');
  if (slash == std::string::npos) {
    throw_corrupt(zip.source(), where_of(zip.records().front()), zip.records().front().header_offset,
                  "a record outside of any folder found, 'archive/data.pkl' or the like expected");
  }
  const std::string prefix(first.substr(0, slash + 1));
  for (const ZipRecord& record : zip.records()) {
    if (starts_with_folded(record.name, prefix)) continue;
    throw_corrupt(zip.source(), where_of(record), record.header_offset,
                  "a record outside of the first one's folder found, " + quote_name(prefix) + " expected");
  }
  return prefix;
}

const ZipRecord& require_record(const ZipReader& zip, const std::string& name) {
  if (const ZipRecord* record = zip.find_ignoring_case(name)) return *record;
  throw CorruptError("cannot read '" + zip.source().name + "': there is no record " + quote_name(name) + " among the " +
                     std::to_string(zip.records().size()) + " of the archive");
}

void check_version(const ZipReader& zip, const std::string& prefix) {
  const ZipRecord* inner = zip.find_ignoring_case(prefix + ".data/version");
  const ZipRecord& record = inner != nullptr ? *inner : require_record(zip, prefix + "version");
  std::string digits = read_small(zip, record);
  while (!digits.empty() && digits.back() == '\n') digits.pop_back();
  const bool is_number =
      !digits.empty() && digits.size() <= 18 && digits.find_first_not_of("0123456789") == std::string::npos;
  const std::uint64_t version = is_number ? std::stoull(digits) : 0;
  if (version > kMaxVersion) {
    throw UnsupportedError("cannot read '" + zip.source().name + "': " + where_of(record) + ": file format version " +
                           digits + " found, this version of ckptio reads up to " + std::to_string(kMaxVersion));
  }
  if (version < kMinVersion) {
    throw_corrupt(zip.source(), where_of(record), record.data_offset,
                  quote_name(digits) + " found, a version from " + std::to_string(kMinVersion) + " to " +
                      std::to_string(kMaxVersion) + " expected");
  }
}

void read_pickle_record(const ZipReader& zip, const ZipRecord& record, PickleDialect dialect, ObjectGraph& graph) {
  const bool is_stored = record.method == ZipMethod::stored;
  const std::uint64_t limit = is_stored ? kMaxPickleBytes : kMaxDeflatedPickleBytes;
  if (record.size > limit) {
    throw UnsupportedError("cannot read '" + zip.source().name + "': " + where_of(record) + ": a " +
                           (is_stored ? "" : "compressed ") + "pickle of " + std::to_string(record.size) +
                           " bytes found, at most " + std::to_string(limit) + " are read");
  }
  const PickleOptions options{std::string(record.name), dialect};
  std::uint64_t end = 0;
  if (is_stored && record.size > kMaxPickleInMemory) {
    zip.verify(record);
    end = read_pickle(graph, slice_source(zip.source().name, zip.source(), record.data_offset, record.size), options);
  } else {
    const std::vector<unsigned char> bytes = zip.read(record);
    end = read_pickle(graph, memory_source(zip.source().name, bytes.data(), bytes.size()), options);
  }
  if (end == record.size) return;
  throw_corrupt(zip.source(), where_of(record), record.data_offset + (is_stored ? end : 0),
                "the pickle ends after " + std::to_string(end) + " of " + std::to_string(record.size) + " bytes");
}

bool is_big_endian(const ZipReader& zip, const std::string& prefix) {
  const ZipRecord* record = zip.find_ignoring_case(prefix + "byteorder");
  if (record == nullptr) return false;
  const std::string order = read_small(zip, *record);
  if (order != "little" && order != "big") {
    throw_corrupt(zip.source(), where_of(*record), record->data_offset,
                  quote_name(order) + " found, 'little' or 'big' expected");
  }
  return order == "big";
}

void find_storages(const ZipReader& zip, const std::string& folder, bool is_big_endian, std::size_t first,
                   ArchiveContents& contents) {
  const bool swap_bytes = is_big_endian != (std::endian::native == std::endian::big);
  std::vector<std::uint8_t> sizes;
  if (swap_bytes) sizes = swap_sizes(contents.graph, first, zip);
  std::string name = folder;
  std::size_t next = 0;  // behind the last one that was found: most files have them in order
  contents.storages.reserve(contents.graph.storages.size());
  for (std::size_t i = first; i < contents.graph.storages.size(); ++i) {
    const StorageInfo& storage = contents.graph.storages[i];
    name.replace(folder.size(), name.npos, storage.key);
    const bool is_next = next < zip.records().size() && zip.records()[next].name == name;
    const ZipRecord& record = is_next ? zip.records()[next] : require_record(zip, name);
    next = static_cast<std::size_t>(&record - zip.records().data()) + 1;
    if (record.size != storage.n_bytes) {
      throw_corrupt(zip.source(), where_of(record), record.data_offset,
                    std::to_string(record.size) + " bytes found, " + std::to_string(storage.n_bytes) +
                        " expected for its storage");
    }
    StorageRecord found;
    found.data_offset = record.data_offset;
    found.n_bytes = record.size;
    found.is_stored = record.method == ZipMethod::stored;
    found.swap_size = swap_bytes ? sizes[i] : 1;
    found.swap_bytes = found.swap_size > 1;
    if (record.crc != 0) found.crc = record.crc;
    found.is_checked = record.is_checked;
    found.zip_record = &record - zip.records().data();
    contents.storages.push_back(std::move(found));
  }
}

ArchiveContents read_python_file(const ZipReader& zip) {
  const std::string prefix = zip_prefix(zip);
  check_version(zip, prefix);
  const bool is_big = is_big_endian(zip, prefix);
  ArchiveContents contents;
  contents.graph.storages.reserve(zip.records().size());  // about so many
  read_pickle_record(zip, require_record(zip, prefix + "data.pkl"), PickleDialect::python, contents.graph);
  find_storages(zip, prefix + "data/", is_big, 0, contents);
  return contents;
}

}  // namespace ckptio::detail
