// SPDX-License-Identifier: Apache-2.0
// Safetensors files: what is read covers the file, and is read again from a file laid out anew.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ckptio/error.h"
#include "codec/safetensors_file.h"
#include "fuzz/fuzz.h"

namespace ckptio::test {
namespace {

using namespace ckptio::detail;

struct Tensor {
  DType dtype;
  Dims sizes, strides;
  std::uint64_t n_bytes;
  bool operator==(const Tensor&) const = default;
};

std::map<std::string, Tensor> tensors_of(const SafetensorsFile& file, std::uint64_t file_size) {
  require(file.graph.storages.size() == file.storages.size(), "storages and their places differ in number");
  const auto* root = file.graph.root->get<ObjectDict>();
  require(root != nullptr && root->items.size() == file.storages.size(), "not one storage for each tensor");
  std::map<std::string, Tensor> tensors;
  for (const auto& [key, value] : root->items) {
    const auto* tensor = value->get<ObjectTensor>();
    require(tensor != nullptr && tensor->storage < file.storages.size(), "an item is no tensor with a storage");
    const StorageRecord& record = file.storages[tensor->storage];
    require(record.data_offset <= file_size && record.n_bytes <= file_size - record.data_offset,
            "a tensor lies outside of the file");
    const auto* name = key->get<ObjectString>();
    require(name != nullptr, "a name is no string");
    require(tensors.emplace(name->utf8, Tensor{tensor->dtype, tensor->sizes, tensor->strides, record.n_bytes}).second,
            "a name came twice");
  }
  return tensors;
}

std::string laid_out_anew(const std::map<std::string, Tensor>& tensors,
                          const std::optional<SafetensorsMetadata>& metadata) {
  std::vector<SafetensorsTensor> wanted;
  std::uint64_t n_bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    wanted.push_back({name, tensor.dtype, tensor.sizes});
    n_bytes += tensor.n_bytes;
  }
  const SafetensorsLayout layout = lay_out_safetensors(wanted, metadata);
  require(layout.file_size == layout.head.size() + n_bytes, "the layout has another size than its parts");
  return layout.head + std::string(n_bytes, '\0');
}

}  // namespace

void fuzz_safetensors(const std::uint8_t* data, std::size_t n_bytes) {
  std::optional<SafetensorsFile> file;
  try {
    file = read_safetensors(fuzz_source(data, n_bytes));
  } catch (const Error&) {
    return;
  }
  const auto tensors = tensors_of(*file, n_bytes);
  const std::string again = laid_out_anew(tensors, file->metadata);
  const SafetensorsFile reread = read_safetensors(memory_source("again", again.data(), again.size()));
  require(tensors_of(reread, again.size()) == tensors, "tensors changed when they were written and read again");
  require(reread.metadata == file->metadata, "metadata changed when it was written and read again");
}

}  // namespace ckptio::test
