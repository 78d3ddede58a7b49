// SPDX-License-Identifier: Apache-2.0
// Zip archives: the structure, every record by both ways to decompress it, and the checkpoint in it.
#include <algorithm>
#include <optional>
#include <vector>

#include "ckptio/error.h"
#include "codec/archive.h"
#include "codec/checksum.h"
#include "codec/zip_reader.h"
#include "fuzz/archive_checks.h"
#include "fuzz/fuzz.h"

namespace ckptio::test {
namespace {

using detail::ZipReader;
using detail::ZipRecord;

void check_places(const ZipReader& zip) {
  std::vector<const ZipRecord*> in_file_order;
  for (const ZipRecord& record : zip.records()) in_file_order.push_back(&record);
  std::sort(in_file_order.begin(), in_file_order.end(),
            [](const ZipRecord* a, const ZipRecord* b) { return a->header_offset < b->header_offset; });
  std::uint64_t end = 0;
  for (const ZipRecord* record : in_file_order) {
    require(record->header_offset >= end, "records overlap");
    require(record->data_offset > record->header_offset, "data begins before its header ends");
    require(record->compressed_size <= zip.source().size - record->data_offset, "data ends beyond the file");
    end = record->data_offset + record->compressed_size;
    require(zip.find(record->name) == record, "a record is not found by its name");
    require(zip.find_ignoring_case(record->name) == record, "a record is not found by its name without case");
  }
}

// Nullopt where it was refused.
std::optional<bool> verify(const ZipReader& zip, const ZipRecord& record) {
  try {
    return zip.verify(record);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<std::vector<unsigned char>> read(const ZipReader& zip, const ZipRecord& record) {
  try {
    return zip.read(record);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

void fuzz_zip(const std::uint8_t* data, std::size_t n_bytes) {
  std::optional<ZipReader> zip;
  try {
    zip.emplace(fuzz_source(data, n_bytes));
  } catch (const Error&) {
    return;
  }
  check_places(*zip);
  for (const ZipRecord& record : zip->records()) {
    const auto verified = verify(*zip, record);
    const auto content = read(*zip, record);
    require(verified.has_value() == content.has_value(), "verify and read disagree about a record");
    if (!content) continue;
    require(content->size() == record.size, "a record has another size than was said");
    require(!*verified || detail::crc32(0, content->data(), content->size()) == record.crc, "a wrong CRC was accepted");
  }
  std::optional<detail::Archive> archive;
  try {
    archive = detail::Archive::open(fuzz_source(data, n_bytes));
  } catch (const Error&) {
    return;
  }
  check_archive(*archive);
}

}  // namespace ckptio::test
