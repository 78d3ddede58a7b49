// SPDX-License-Identifier: Apache-2.0
// What interop tests ask of the codec, without Torch:
//
//   codec_tool relayout IN OUT          lays out the records of a zip file anew; of torch.save's that gives its bytes
//   codec_tool rewrite IN OUT [PREFIX]  reads a checkpoint of any format, writes its objects as torch.save does
//   codec_tool check FILE...            opens each, reads all its storages and indices: "ok FILE" or "error FILE:
//   message"
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "ckptio/error.h"
#include "codec/archive.h"
#include "codec/checksum.h"
#include "codec/index_values.h"
#include "codec/python_layout.h"
#include "codec/zip_layout.h"
#include "codec/zip_reader.h"

using namespace ckptio::detail;

namespace {

ByteSource file_source(const std::string& path) {
  auto file = std::make_shared<std::ifstream>(path, std::ios::binary);
  file->seekg(0, std::ios::end);
  if (!*file) throw ckptio::NotFoundError("cannot open '" + path + "'");
  const auto size = static_cast<std::uint64_t>(file->tellg());
  return {path, size, [file, path](std::uint64_t offset, void* destination, std::size_t n_bytes) {
            file->seekg(static_cast<std::streamoff>(offset));
            file->read(static_cast<char*>(destination), static_cast<std::streamsize>(n_bytes));
            if (!*file) throw ckptio::IoError("cannot read '" + path + "'");
          }};
}

void relayout(const std::string& in, const std::string& out) {
  const ZipReader zip(file_source(in));
  std::vector<ZipRecord> records = zip.records();
  std::sort(records.begin(), records.end(),
            [](const ZipRecord& a, const ZipRecord& b) { return a.header_offset < b.header_offset; });
  std::uint64_t alignment = 64;
  for (const ZipRecord& record : records) {
    const std::string name(record.name);
    if (name.substr(name.find('/') + 1) != ".storage_alignment") continue;
    const auto digits = zip.read(record);
    alignment = std::stoull(std::string(digits.begin(), digits.end()));
  }
  ZipLayout layout(alignment);
  for (const ZipRecord& record : records) layout.add(std::string(record.name), record.size);

  std::ofstream file(out, std::ios::binary);
  std::vector<std::uint32_t> crcs;
  std::vector<char> chunk;
  for (std::size_t i = 0; i < records.size(); ++i) {
    file << layout.header(i);
    std::uint32_t crc = 0;
    for (std::uint64_t done = 0; done < records[i].size; done += chunk.size()) {
      chunk.resize(std::min<std::uint64_t>(records[i].size - done, 1 << 20));
      zip.source().read_at(records[i].data_offset + done, chunk.data(), chunk.size());
      crc = crc32(crc, chunk.data(), chunk.size());
      file.write(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    }
    file << layout.descriptor(i, crc);
    crcs.push_back(crc);
  }
  file << layout.directory(crcs);
  file.close();
  if (!file) throw ckptio::IoError("cannot write '" + out + "'");
}

void rewrite(const std::string& in, const std::string& out, const PythonLayoutOptions& options) {
  const Archive archive = Archive::open(file_source(in));
  const PythonLayout layout(archive.graph(), archive.root(), options);
  std::ofstream file(out, std::ios::binary);
  std::vector<std::uint32_t> crcs;
  for (std::size_t i = 0; i < layout.zip().records().size(); ++i) {
    const auto storage = layout.storage_of(i);
    std::string content(layout.zip().records()[i].size, '\0');
    if (storage) archive.read_storage(*storage, content.data());
    if (!storage) content = layout.content_of(i, crcs);
    const std::uint32_t crc = crc32(0, content.data(), content.size());
    file << layout.zip().header(i) << content << layout.zip().descriptor(i, crc);
    crcs.push_back(crc);
  }
  file << layout.zip().directory(crcs);
  file.close();
  if (!file) throw ckptio::IoError("cannot write '" + out + "'");
}

void check(const std::string& path) {
  try {
    const Archive archive = Archive::open(file_source(path));
    for (std::size_t i = 0; i < archive.storages().size(); ++i) {
      archive.read_storage_pieces(i, [](const void*, std::size_t) {});
    }
    check_index_values(archive);
    std::cout << "ok " << path << '\n';
  } catch (const ckptio::Error& error) {
    std::cout << "error " << path << ": " << error.what() << '\n';
  }
}

int run(const std::vector<std::string>& words) {
  if (words.size() == 3 && words[0] == "relayout") {
    relayout(words[1], words[2]);
  } else if ((words.size() == 3 || words.size() == 4) && words[0] == "rewrite") {
    PythonLayoutOptions options;
    if (words.size() == 4) options.prefix = words[3];
    rewrite(words[1], words[2], options);
  } else if (words.size() > 1 && words[0] == "check") {
    for (std::size_t i = 1; i < words.size(); ++i) check(words[i]);
  } else {
    std::cerr << "usage: codec_tool relayout IN OUT | rewrite IN OUT [PREFIX] | check FILE...\n";
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const ckptio::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
