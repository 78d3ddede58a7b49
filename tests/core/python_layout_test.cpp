// SPDX-License-Identifier: Apache-2.0
// The whole file is what Python's torch.save writes of the same pickle.
#include "codec/python_layout.h"

#include <string>

#include "ckptio/error.h"
#include "codec/archive.h"
#include "codec/checksum.h"
#include "support/catch.h"

using namespace ckptio;
using namespace ckptio::detail;

namespace {

std::string content_of_storage(std::uint64_t n_bytes) {
  std::string content(n_bytes, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7);
  return content;
}

std::string file_of(const ObjectGraph& graph, const PythonLayout& layout) {
  std::string file;
  std::vector<std::uint32_t> crcs;
  for (std::size_t i = 0; i < layout.zip().records().size(); ++i) {
    const auto storage = layout.storage_of(i);
    const std::string content =
        storage ? content_of_storage(graph.storages[*storage].n_bytes) : layout.content_of(i, crcs);
    REQUIRE(content.size() == layout.zip().records()[i].size);
    crcs.push_back(crc32(0, content.data(), content.size()));
    file += layout.zip().header(i) + content + layout.zip().descriptor(i, crcs.back());
  }
  return file + layout.zip().directory(crcs);
}

Object* tensor_of(ObjectGraph& graph, std::uint64_t n_floats) {
  ObjectTensor tensor;
  tensor.storage = static_cast<std::uint32_t>(graph.storages.size());
  tensor.sizes = {static_cast<std::int64_t>(n_floats)};
  tensor.strides = {1};
  graph.storages.push_back({"", "cpu", DType::float32, false, n_floats * 4});
  return graph.make(std::move(tensor));
}

}  // namespace

TEST_CASE("PythonLayout.TheFileIsTorchSaves", "[python]") {
  // Measured: torch.save(7, buffer) of torch 2.13 has these bytes, and this id; its pickle is what ours is.
  ObjectGraph graph;
  graph.root = graph.make(std::int64_t{7});
  const PythonLayout layout(graph, *graph.root);
  const std::string file = file_of(graph, layout);
  CHECK(file.size() == 1261);
#ifdef __GLIBCXX__  // the id goes in the order of its std::unordered_set
  CHECK(file.find("0290846867776292310400059738695561951954") != std::string::npos);
  CHECK(crc32(0, file.data(), file.size()) == 0x09c5212d);
#endif
}

TEST_CASE("PythonLayout.RecordsAreInPythonsOrder", "[python]") {
  ObjectGraph graph;
  graph.root = graph.make(ObjectList{{tensor_of(graph, 3), tensor_of(graph, 0), tensor_of(graph, 100)}});
  const PythonLayout layout(graph, *graph.root, {.prefix = "model", .alignment = 256});
  std::vector<std::string> names;
  for (const auto& record : layout.zip().records()) {
    names.emplace_back(record.name);
    CHECK(record.data_offset % 256 == 0);
  }
  CHECK(names == std::vector<std::string>{"model/data.pkl", "model/.format_version", "model/.storage_alignment",
                                          "model/byteorder", "model/data/0", "model/data/1", "model/data/2",
                                          "model/version", "model/.data/serialization_id"});
  CHECK(layout.content_of(2, {}) == "256");
  CHECK_FALSE(layout.storage_of(3));
  CHECK(layout.storage_of(4) == 0u);
  CHECK(layout.storage_of(6) == 2u);
  CHECK_FALSE(layout.storage_of(7));
}

TEST_CASE("PythonLayout.WhatItLaysOutIsAnArchive", "[python]") {
  ObjectGraph graph;
  graph.root = graph.make(ObjectList{{tensor_of(graph, 3), tensor_of(graph, 0), tensor_of(graph, 100000)}});
  const std::string file = file_of(graph, PythonLayout(graph, *graph.root));
  const Archive archive = Archive::open(memory_source("x.pt", file.data(), file.size()));
  CHECK(archive.format() == ArchiveFormat::python);
  REQUIRE(archive.storages().size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    std::string content(archive.storages()[i].n_bytes, '\0');
    archive.read_storage(i, content.data());
    CHECK((content == content_of_storage(graph.storages[i].n_bytes)));
    CHECK(archive.verify_storage(i));
  }
}

TEST_CASE("PythonLayout.TheIdCanBeGiven", "[python]") {
  ObjectGraph graph;
  graph.root = graph.make(std::int64_t{7});
  const std::string id = std::string(39, '1') + "2";
  const PythonLayout layout(graph, *graph.root, {.serialization_id = id});
  CHECK(file_of(graph, layout).find(id) != std::string::npos);
  CHECK_THROWS_AS(PythonLayout(graph, *graph.root, {.serialization_id = "12"}), ValueError);
  CHECK_THROWS_AS(PythonLayout(graph, *graph.root, {.prefix = "a/b"}), ValueError);
  CHECK_THROWS_AS(PythonLayout(graph, *graph.root, {.prefix = ""}), ValueError);
}
