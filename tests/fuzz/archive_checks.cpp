// SPDX-License-Identifier: Apache-2.0
#include "fuzz/archive_checks.h"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "ckptio/error.h"
#include "codec/index_values.h"
#include "fuzz/fuzz.h"

namespace ckptio::test {
namespace {

using namespace ckptio::detail;

// A fuzzer's input is small, but what it holds may be deflated.
constexpr std::uint64_t kMaxReadBytes = std::uint64_t{64} << 20;

// In elements, in a type that cannot overflow.
void check_dense(const ObjectGraph& graph, const ObjectTensor& tensor) {
  require(tensor.sizes.size() == tensor.strides.size(), "sizes and strides differ in number");
  if (tensor.storage == ObjectTensor::kNoStorage) return;
  require(tensor.storage < graph.storages.size(), "a tensor of a storage that is not there");
  __int128 first = tensor.offset, last = tensor.offset;
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    require(tensor.sizes[i] >= 0, "a negative size");
    if (tensor.sizes[i] == 0) return;
    const __int128 extent = (static_cast<__int128>(tensor.sizes[i]) - 1) * tensor.strides[i];
    (extent < 0 ? first : last) += extent;
  }
  require(first >= 0, "a tensor before its storage");
  require((last + 1) * item_size(tensor.dtype) <= graph.storages[tensor.storage].n_bytes,
          "a tensor beyond its storage");
}

// The content, or nullopt where it is refused.
std::optional<std::string> read(const Archive& archive, std::size_t index) {
  std::string content(archive.storages()[index].n_bytes, '\0');
  try {
    archive.read_storage(index, content.data());
    return content;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<std::string> read_in_pieces(const Archive& archive, std::size_t index) {
  std::string content;
  try {
    archive.read_storage_pieces(
        index, [&](const void* data, std::size_t n_bytes) { content.append(static_cast<const char*>(data), n_bytes); });
    return content;
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool is_verified(const Archive& archive, std::size_t index) {
  try {
    archive.verify_storage(index);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void check_storages(const Archive& archive) {
  std::uint64_t n_bytes = 0;
  for (std::size_t i = 0; i < archive.storages().size(); ++i) {
    const StorageRecord& record = archive.storages()[i];
    require(record.n_bytes == archive.graph().storages[i].n_bytes, "a storage of another size than its record");
    if (record.is_stored) {
      require(
          record.data_offset <= archive.source().size && record.n_bytes <= archive.source().size - record.data_offset,
          "a storage outside of the file");
    }
    n_bytes += std::min(record.n_bytes, kMaxReadBytes);
    if (n_bytes > kMaxReadBytes) return;
    const auto content = read(archive, i);
    require(content == read_in_pieces(archive, i), "a storage differs when it is read in pieces");
    require(content.has_value() == is_verified(archive, i),
            "a storage is read but not verified, or verified but not read");
  }
}

}  // namespace

void check_graph(const ObjectGraph& graph) {
  std::unordered_set<const Object*> own;
  for (const Object& object : graph.objects) own.insert(&object);
  require(own.count(graph.root) == 1, "the root is not of the graph");
  for (const Object& object : graph.objects) {
    for (std::size_t i = 0; i < n_children(object); ++i) {
      const Object* const below = child(object, i);
      require(below == nullptr || own.count(below) == 1, "an object refers to one outside of the graph");
    }
    if (const auto* storage = object.get<ObjectStorage>()) {
      require(storage->storage < graph.storages.size(), "a storage that is not there");
    }
    const auto* tensor = object.get<ObjectTensor>();
    if (tensor != nullptr && tensor->form == ObjectTensor::Form::dense) check_dense(graph, *tensor);
    if (tensor != nullptr && tensor->form == ObjectTensor::Form::quantized) check_dense(graph, *tensor);
  }
  for (const OpaquePlace& place : find_opaque(graph.root)) require(!place.path.empty(), "an opaque object has no path");
}

void check_archive(const Archive& archive) {
  require(archive.storages().size() == archive.graph().storages.size(), "not one record for each storage");
  check_graph(archive.graph());
  check_storages(archive);
  try {
    check_index_values(archive);
  } catch (const Error&) {
  }
}

}  // namespace ckptio::test
