// SPDX-License-Identifier: Apache-2.0
#include "codec/zip_reader.h"

#include <algorithm>
#include <cstring>

#include "ckptio/error.h"
#include "codec/checksum.h"
#include "codec/inflate.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

// How much is read at once: few enough calls for a disk, and still in the cache when the CRC comes to it.
constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;

// A deflated record that claims more than this many times its compressed size is decompressed piece by piece first,
// before memory is set aside for it: only a true claim shall cost memory. Text and pickles stay below.
constexpr std::uint64_t kTrustedRatio = 16;

// A deflated record of up to this many bytes in the file is read at once, since libdeflate needs it whole.
constexpr std::uint64_t kMaxBytesAtOnce = std::uint64_t{16} << 20;

bool is_same_ignoring_case(std::string_view a, std::string_view b) {
  if (a == b) return true;
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return fold_case(x) == fold_case(y); });
}

void require_inflated(const ByteSource& source, const ZipRecord& record, InflateResult result) {
  if (result == InflateResult::ok) return;
  throw_corrupt(source, "record " + quote_name(record.name), record.data_offset,
                std::string(describe(result)) + "; " + std::to_string(record.compressed_size) +
                    " compressed bytes that give " + std::to_string(record.size) + " expected");
}

// Calls `use(bytes, n)` for the record's content, in pieces of kChunkBytes and a rest.
void read_stored(const ByteSource& source, const ZipRecord& record, const ZipReader::Piece& use) {
  std::vector<unsigned char> chunk(std::min(kChunkBytes, record.size));
  for (std::uint64_t done = 0; done < record.size; done += chunk.size()) {
    chunk.resize(std::min(kChunkBytes, record.size - done));
    source.read_at(record.data_offset + done, chunk.data(), chunk.size());
    use(chunk.data(), chunk.size());
  }
}

void read_deflated(const ByteSource& source, const ZipRecord& record, const ZipReader::Piece& use) {
  std::vector<unsigned char> chunk, pending;
  std::uint64_t done = 0;
  const InflateInput input = [&]() -> InputPiece {
    chunk.resize(std::min(kChunkBytes, record.compressed_size - done));
    if (!chunk.empty()) source.read_at(record.data_offset + done, chunk.data(), chunk.size());
    done += chunk.size();
    return {chunk.data(), chunk.size()};
  };
  const InflateOutput output = [&](const unsigned char* data, std::size_t n_bytes) {
    while (n_bytes > 0) {
      const std::size_t n_now = std::min<std::size_t>(n_bytes, kChunkBytes - pending.size());
      pending.insert(pending.end(), data, data + n_now);
      data += n_now, n_bytes -= n_now;
      if (pending.size() < kChunkBytes) continue;
      use(pending.data(), pending.size());
      pending.clear();
    }
  };
  require_inflated(source, record, inflate_stream(input, output, record.size));
  if (!pending.empty()) use(pending.data(), pending.size());
}

}  // namespace

ZipReader::ZipReader(ByteSource source) : source_(std::move(source)), directory_(read_zip_directory(source_)) {
  build_index();
}

void ZipReader::build_index() {
  by_folded_name_.reserve(records().size());
  for (std::uint32_t i = 0; i < records().size(); ++i) {
    const ZipRecord& record = records()[i];
    const std::uint32_t* known = by_folded_name_.find_or_add(
        hash_ignoring_case(record.name), i,
        [&](std::uint32_t other) { return is_same_ignoring_case(records()[other].name, record.name); });
    if (known == nullptr) continue;
    throw_corrupt(source_, "record " + quote_name(record.name), record.header_offset,
                  "a second record of the name " + quote_name(records()[*known].name) +
                      " found (but for case), the other is at byte " + std::to_string(records()[*known].header_offset));
  }
}

const ZipRecord* ZipReader::find_ignoring_case(std::string_view name) const {
  const std::uint32_t* index = by_folded_name_.find(hash_ignoring_case(name), [&](std::uint32_t known) {
    return is_same_ignoring_case(records()[known].name, name);
  });
  return index == nullptr ? nullptr : &records()[*index];
}

const ZipRecord* ZipReader::find(std::string_view name) const {
  const ZipRecord* record = find_ignoring_case(name);
  return record != nullptr && record->name == name ? record : nullptr;
}

void ZipReader::check_crc(const ZipRecord& record, std::uint32_t found) const {
  detail::check_crc(source_, record.name, record.data_offset, record.size, record.crc, found);
}

std::vector<unsigned char> ZipReader::read(const ZipRecord& record) const {
  if (record.size / kTrustedRatio > record.compressed_size) verify(record);
  std::vector<unsigned char> content(record.size);
  read_into(record, content.data());
  return content;
}

void ZipReader::read_into(const ZipRecord& record, void* destination) const {
  auto* const bytes = static_cast<unsigned char*>(destination);
  std::uint32_t crc = 0;
  if (record.method == ZipMethod::stored) {
    for (std::uint64_t done = 0; done < record.size;) {
      const std::uint64_t n_now = std::min(kChunkBytes, record.size - done);
      source_.read_at(record.data_offset + done, bytes + done, n_now);
      crc = crc32(crc, bytes + done, n_now);
      done += n_now;
    }
  } else if (record.compressed_size <= kMaxBytesAtOnce) {
    std::vector<unsigned char> compressed(record.compressed_size);
    if (!compressed.empty()) source_.read_at(record.data_offset, compressed.data(), compressed.size());
    require_inflated(source_, record, inflate(compressed.data(), compressed.size(), bytes, record.size));
    crc = crc32(0, bytes, record.size);
  } else {
    std::uint64_t done = 0;
    read_deflated(source_, record, [&](const unsigned char* data, std::size_t n) {
      std::memcpy(bytes + done, data, n);
      crc = crc32(crc, data, n);
      done += n;
    });
  }
  check_crc(record, crc);
}

bool ZipReader::read_pieces(const ZipRecord& record, const Piece& use) const {
  std::uint32_t crc = 0;
  const Piece use_and_count = [&](const unsigned char* data, std::size_t n) {
    crc = crc32(crc, data, n);
    use(data, n);
  };
  if (record.method == ZipMethod::stored) {
    read_stored(source_, record, use_and_count);
  } else {
    read_deflated(source_, record, use_and_count);
  }
  check_crc(record, crc);
  return record.crc != 0 || crc == 0;
}

bool ZipReader::verify(const ZipRecord& record) const {
  return read_pieces(record, [](const unsigned char*, std::size_t) {});
}

bool ZipReader::verify_all() const {
  bool all_have_crc = true;
  for (const ZipRecord& record : records()) all_have_crc = verify(record) && all_have_crc;
  return all_have_crc;
}

}  // namespace ckptio::detail
