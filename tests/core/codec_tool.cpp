// SPDX-License-Identifier: Apache-2.0
// What interop tests ask of the codec, without Torch:
//
//   codec_tool relayout IN OUT   lays out the records of a zip file anew; of torch.save's files that gives the same bytes
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "ckptio/error.h"
#include "codec/checksum.h"
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
    const std::string& name = record.name;
    if (name.substr(name.find('/') + 1) != ".storage_alignment") continue;
    const auto digits = zip.read(record);
    alignment = std::stoull(std::string(digits.begin(), digits.end()));
  }
  ZipLayout layout(alignment);
  for (const ZipRecord& record : records) layout.add(record.name, record.size);

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

int run(const std::vector<std::string>& words) {
  if (words.size() == 3 && words[0] == "relayout") {
    relayout(words[1], words[2]);
  } else {
    std::cerr << "usage: codec_tool relayout IN OUT\n";
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
