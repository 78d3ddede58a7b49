// SPDX-License-Identifier: Apache-2.0
#include "codec/legacy_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ckptio/error.h"
#include "codec/little_endian.h"
#include "codec/pickle_reader.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

// 0x1950a86a20f9469cfc6c, least significant byte first: as a binary pickle has it; and as one of protocol 0 has it.
constexpr std::string_view kMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);
constexpr std::string_view kMagicDigits = "119547037146038801333356";
constexpr std::int64_t kProtocolVersion = 1001;
constexpr std::uint64_t kLengthBytes = 8;

// The first pickles hold a number or a few; the limit is for the reading of these alone.
constexpr std::uint64_t kMaxHeadBytes = 4096;

using StoragesByKey = std::map<std::string, std::vector<std::uint32_t>>;

std::uint64_t read_head(ObjectGraph& graph, const ByteSource& source, std::uint64_t begin) {
  const std::uint64_t n_bytes = std::min(source.size, begin + kMaxHeadBytes);
  const ByteSource head{source.name, n_bytes, source.read_at};
  return read_pickle(graph, head, {"", PickleDialect::legacy, begin});
}

// Magic number, protocol version, machine. Returns where the fourth pickle begins.
std::uint64_t read_heads(const ByteSource& source) {
  ObjectGraph graph;
  std::uint64_t at = read_head(graph, source, 0);
  const auto* magic = graph.root->get<ObjectBigInt>();
  if (magic == nullptr || magic->twos_complement != kMagic) {
    throw_corrupt(source, "first pickle", 0, "another value found, torch.save's magic number expected");
  }
  const std::uint64_t version_at = at;
  at = read_head(graph, source, at);
  const auto* version = graph.root->get<std::int64_t>();
  if (version == nullptr || *version != kProtocolVersion) {
    throw_corrupt(source, "second pickle", version_at,
                  (version == nullptr ? "no number" : std::to_string(*version)) + " found, protocol version " +
                      std::to_string(kProtocolVersion) + " expected");
  }
  const std::uint64_t machine_at = at;
  at = read_head(graph, source, at);
  if (!graph.root->is<ObjectDict>()) throw_corrupt(source, "third pickle", machine_at, "no dict found, one expected");
  return at;
}

StoragesByKey storages_by_key(const ObjectGraph& graph) {
  StoragesByKey result;
  for (std::uint32_t i = 0; i < graph.storages.size(); ++i) result[graph.storages[i].key].push_back(i);
  return result;
}

// One storage of the file: its length, and where its bytes begin. Tensors of several types may share an empty one.
void add_storage(const ByteSource& source, const std::string& key, const std::vector<std::uint32_t>& indices,
                 std::uint64_t at, ArchiveContents& contents) {
  const std::string where = "storage " + quote_name(key);
  std::array<unsigned char, kLengthBytes> length{};
  if (at > source.size || source.size - at < kLengthBytes) {
    throw_corrupt(source, where, at, "the file ends before the storage's length");
  }
  source.read_at(at, length.data(), length.size());
  const std::uint64_t n_items = load_le64(length.data());
  for (const std::uint32_t index : indices) {
    const StorageInfo& storage = contents.graph.storages[index];
    const DTypeInfo& dtype = dtype_info(storage.dtype);
    if (n_items != storage.n_bytes / dtype.item_size) {
      throw_corrupt(source, where, at,
                    std::to_string(n_items) + " elements found, " + std::to_string(storage.n_bytes / dtype.item_size) +
                        " expected as the tensors have it");
    }
    if (storage.n_bytes > source.size - at - kLengthBytes) {
      throw_corrupt(source, where, at + kLengthBytes,
                    std::to_string(source.size - at - kLengthBytes) + " bytes left in the file, " +
                        std::to_string(storage.n_bytes) + " expected: the file is truncated");
    }
    StorageRecord& record = contents.storages[index];
    record.name = "storage " + key;
    record.data_offset = at + kLengthBytes;
    record.n_bytes = storage.n_bytes;
    record.swap_size = std::endian::native == std::endian::big ? dtype.swap_size : std::uint8_t{1};
    record.swap_bytes = record.swap_size > 1;
  }
}

// The keys' list says in which order the storages follow. Each must be there, and once: torch.load leaves one that is
// not listed uninitialized.
void add_storages(const ByteSource& source, const Object& keys, std::uint64_t keys_at, std::uint64_t at,
                  ArchiveContents& contents) {
  const std::string where = "list of storage keys";
  const auto* list = keys.get<ObjectList>();
  if (list == nullptr) throw_corrupt(source, where, keys_at, "no list found, one expected");
  StoragesByKey missing = storages_by_key(contents.graph);
  contents.storages.resize(contents.graph.storages.size());
  for (const Object* item : list->items) {
    const auto* key = item->get<ObjectString>();
    const auto known = key == nullptr ? missing.end() : missing.find(key->utf8);
    if (known == missing.end()) {
      throw_corrupt(source, where, keys_at,
                    (key == nullptr ? "something other than a string" : quote_name(key->utf8)) +
                        " found, the key of a storage that the objects use expected, each once");
    }
    add_storage(source, key->utf8, known->second, at, contents);
    const std::uint32_t first = known->second.front();
    at = contents.storages[first].data_offset + contents.storages[first].n_bytes;
    missing.erase(known);
  }
  if (!missing.empty()) {
    throw_corrupt(source, where, keys_at,
                  "the key " + quote_name(missing.begin()->first) + " is missing, and " +
                      std::to_string(missing.size() - 1) + " others");
  }
  if (at != source.size) {
    throw_corrupt(source, "end of the storages", at,
                  std::to_string(source.size - at) + " bytes behind the last storage found, none expected");
  }
}

}  // namespace

bool looks_like_legacy_file(const ByteSource& source) {
  std::string head(std::min<std::uint64_t>(source.size, 64), '\0');
  if (!head.empty()) source.read_at(0, head.data(), head.size());
  // PROTO, perhaps FRAME, LONG1; or LONG with its digits.
  const bool is_binary = head.starts_with('\x80') && head.find(kMagic) <= 16;
  return is_binary || (head.starts_with('L') && head.substr(1).starts_with(kMagicDigits));
}

ArchiveContents read_legacy_file(const ByteSource& source) {
  std::uint64_t at = read_heads(source);
  ArchiveContents contents;
  at = read_pickle(contents.graph, source, {"", PickleDialect::legacy, at});
  ObjectGraph keys;
  const std::uint64_t keys_at = at;
  at = read_pickle(keys, source, {"", PickleDialect::legacy, at});
  add_storages(source, *keys.root, keys_at, at, contents);
  return contents;
}

}  // namespace ckptio::detail
