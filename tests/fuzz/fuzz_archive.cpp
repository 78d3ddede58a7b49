// SPDX-License-Identifier: Apache-2.0
// Whole zip archives of torch.save and LibTorch, of which the input gives the records' contents: a fuzzer seldom makes
// a zip that is right. Parts of the input end with a byte 0xFE 0xFF; the first byte chooses what kind of archive it is.
#include <optional>
#include <string>
#include <vector>

#include "ckptio/error.h"
#include "codec/archive.h"
#include "codec/checksum.h"
#include "codec/zip_layout.h"
#include "fuzz/archive_checks.h"
#include "fuzz/fuzz.h"

namespace ckptio::test {
namespace {

using namespace ckptio::detail;
using Records = std::vector<std::pair<std::string, std::string>>;

std::vector<std::string> split(std::string_view input) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t end = input.find("\xFE\xFF");
    parts.emplace_back(input.substr(0, end));
    if (end == std::string_view::npos) return parts;
    input.remove_prefix(end + 2);
  }
}

std::string zip_of(const Records& records) {
  ZipLayout layout(1);
  for (const auto& [name, content] : records) layout.add("a/" + name, content.size());
  std::string bytes;
  std::vector<std::uint32_t> crcs;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const std::string& content = records[i].second;
    crcs.push_back(crc32(0, content.data(), content.size()));
    bytes += layout.header(i) + content + layout.descriptor(i, crcs.back());
  }
  return bytes + layout.directory(crcs);
}

}  // namespace

void fuzz_archive(const std::uint8_t* data, std::size_t n_bytes) {
  if (n_bytes == 0) return;
  std::vector<std::string> parts = split({reinterpret_cast<const char*>(data) + 1, n_bytes - 1});
  const bool is_libtorch = (data[0] & 1) != 0, is_big_endian = (data[0] & 2) != 0;
  Records records = {{"version", "3\n"}, {"byteorder", is_big_endian ? "big" : "little"}, {"data.pkl", parts[0]}};
  std::size_t n_used = 1;
  if (is_libtorch) {
    parts.resize(std::max<std::size_t>(parts.size(), 3));
    records.emplace_back("constants.pkl", parts[1]);
    records.emplace_back("code/__torch__.py", parts[2]);
    n_used = 3;
  }
  for (std::size_t i = n_used; i < parts.size(); ++i)
    records.emplace_back("data/" + std::to_string(i - n_used), parts[i]);
  const std::string bytes = zip_of(records);
  std::optional<Archive> archive;
  try {
    archive = Archive::open(memory_source("input", bytes.data(), bytes.size()));
  } catch (const Error&) {
    return;
  }
  check_archive(*archive);
}

}  // namespace ckptio::test
