// SPDX-License-Identifier: Apache-2.0
// Checkpoint files for the tests of the tool, made with the codec: no Python, no Torch.
#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "codec/checksum.h"
#include "codec/object.h"
#include "codec/python_layout.h"

namespace ckptio::test {

// An object graph and the bytes of its storages.
class CheckpointFile {
 public:
  detail::ObjectGraph graph;
  std::vector<std::string> storages;

  detail::Object* string(std::string utf8) { return graph.make(detail::ObjectString{std::move(utf8)}); }
  detail::Object* integer(std::int64_t value) { return graph.make(value); }

  detail::Object* dict(std::initializer_list<std::pair<std::string, detail::Object*>> items) {
    detail::ObjectDict dict;
    for (const auto& [key, value] : items) dict.items.emplace_back(string(key), value);
    return graph.make(std::move(dict));
  }

  // A contiguous tensor with a storage of its own. `bytes` may be empty where the storage is written otherwise.
  detail::Object* tensor(detail::DType dtype, std::vector<std::int64_t> sizes, std::string bytes) {
    detail::ObjectTensor tensor;
    tensor.dtype = dtype;
    tensor.sizes = std::move(sizes);
    tensor.strides.resize(tensor.sizes.size());
    std::int64_t n = 1;
    for (std::size_t i = tensor.sizes.size(); i-- > 0;) tensor.strides[i] = n, n *= tensor.sizes[i];
    tensor.storage = static_cast<std::uint32_t>(graph.storages.size());
    const auto n_bytes = static_cast<std::uint64_t>(n) * detail::item_size(dtype);
    graph.storages.push_back({std::to_string(tensor.storage), "cpu", dtype, false, n_bytes});
    storages.push_back(std::move(bytes));
    return graph.make(std::move(tensor));
  }

  detail::Object* floats(const std::vector<float>& values) {
    return tensor(detail::DType::float32, {static_cast<std::int64_t>(values.size())},
                  std::string(reinterpret_cast<const char*>(values.data()), 4 * values.size()));
  }

  // argparse.Namespace(name=value)
  detail::Object* opaque(const std::string& name, detail::Object* value) {
    detail::ObjectOpaque opaque;
    opaque.make = detail::ObjectOpaque::Make::new_object;
    opaque.callable = graph.make(detail::ObjectGlobal{"argparse", "Namespace"});
    opaque.args = graph.make(detail::ObjectTuple{});
    opaque.state = dict({{name, value}});
    return graph.make(std::move(opaque));
  }

  void write(const std::string& path, const detail::Object* root) const {
    const detail::PythonLayout layout(graph, *root);
    std::ofstream file(path, std::ios::binary);
    std::vector<std::uint32_t> crcs;
    for (std::size_t i = 0; i < layout.zip().records().size(); ++i) {
      const auto storage = layout.storage_of(i);
      const std::string content = storage ? storages[*storage] : layout.content_of(i, crcs);
      crcs.push_back(detail::crc32(0, content.data(), content.size()));
      file << layout.zip().header(i) << content << layout.zip().descriptor(i, crcs.back());
    }
    file << layout.zip().directory(crcs);
  }

  // As write, with zeros as the storages' bytes: a file with holes, large and quick to make.
  void write_zeros(const std::string& path, const detail::Object* root) const {
    const detail::PythonLayout layout(graph, *root);
    std::ofstream file(path, std::ios::binary);
    std::vector<std::uint32_t> crcs;
    for (std::size_t i = 0; i < layout.zip().records().size(); ++i) {
      const auto& record = layout.zip().records()[i];
      file << layout.zip().header(i);
      if (layout.storage_of(i)) {
        crcs.push_back(crc_of_zeros(record.size));
        file.seekp(static_cast<std::streamoff>(record.data_offset + record.size));
      } else {
        const std::string content = layout.content_of(i, crcs);
        crcs.push_back(detail::crc32(0, content.data(), content.size()));
        file << content;
      }
      file << layout.zip().descriptor(i, crcs.back());
    }
    file << layout.zip().directory(crcs);
  }

 private:
  static std::uint32_t crc_of_zeros(std::uint64_t n_bytes) {
    std::uint32_t crc = 0, power = detail::crc32(0, "", 1);  // of 2^i zeros
    for (std::uint64_t n_power = 1; n_bytes != 0; n_bytes >>= 1, n_power *= 2) {
      if ((n_bytes & 1) != 0) crc = detail::crc32_combine(crc, power, n_power);
      power = detail::crc32_combine(power, power, n_power);
    }
    return crc;
  }
};

}  // namespace ckptio::test
