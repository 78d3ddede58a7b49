// SPDX-License-Identifier: Apache-2.0
#include "cli/salvage.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "codec/checksum.h"
#include "codec/little_endian.h"

namespace ckptio::cli {
namespace {

using detail::load_le16;
using detail::load_le32;
using detail::load_le64;

constexpr std::uint32_t kLocalSignature = 0x04034b50, kDescriptorSignature = 0x08074b50;
constexpr std::uint64_t kLocalBytes = 30, kDescriptorBytes = 16, kLongDescriptorBytes = 24;
constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;
constexpr unsigned kFlagDescriptor = 1u << 3;

// Archives have some thousands of records; a hostile one could have one for every 30 bytes.
constexpr std::size_t kMaxRecords = 1'000'000;

struct Descriptor {
  std::uint32_t crc = 0, crc_found = 0;
  std::uint64_t begin = 0, end = 0;
};

// Reads a file from an offset on, piece by piece, so that every position has kLongDescriptorBytes bytes behind it
// wherever the file has.
class Window {
 public:
  Window(const detail::ByteSource& source, std::uint64_t begin) : source_(source), begin_(begin) {}

  std::uint64_t begin() const { return begin_; }
  const unsigned char* data() const { return bytes_.data(); }
  std::uint64_t size() const { return bytes_.size(); }

  // Moves so that it begins at `offset`. False at the end of the file.
  bool fill(std::uint64_t offset) {
    begin_ = offset;
    bytes_.resize(std::min(kChunkBytes + kLongDescriptorBytes, source_.size - offset));
    if (!bytes_.empty()) source_.read_at(offset, bytes_.data(), bytes_.size());
    return !bytes_.empty();
  }

 private:
  const detail::ByteSource& source_;
  std::uint64_t begin_;
  std::vector<unsigned char> bytes_;
};

// The descriptor at `at` in the window, if it is one and its sizes are the distance from the data's begin.
std::optional<Descriptor> descriptor_at(const Window& window, std::uint64_t at, std::uint64_t data_begin) {
  const unsigned char* bytes = window.data() + at;
  const std::uint64_t n_left = window.size() - at, n_data = window.begin() + at - data_begin;
  if (n_left < kDescriptorBytes || load_le32(bytes) != kDescriptorSignature) return std::nullopt;
  Descriptor found{load_le32(bytes + 4), 0, window.begin() + at, 0};
  if (n_data <= 0xFFFFFFFF && load_le32(bytes + 8) == n_data) {
    found.end = found.begin + kDescriptorBytes;
  } else if (n_left >= kLongDescriptorBytes && load_le64(bytes + 8) == n_data) {
    found.end = found.begin + kLongDescriptorBytes;
  } else {
    return std::nullopt;
  }
  return found;
}

// The descriptor that ends the data from `data_begin` on, with the CRC of the bytes before it.
std::optional<Descriptor> find_descriptor(const detail::ByteSource& source, std::uint64_t data_begin) {
  static constexpr unsigned char kMagic[] = {'P', 'K', 7, 8};
  Window window(source, data_begin);
  std::uint32_t crc = 0;
  for (std::uint64_t offset = data_begin; window.fill(offset); offset += kChunkBytes) {
    const std::uint64_t n_here = std::min(window.size(), kChunkBytes);
    const unsigned char *begin = window.data(), *end = begin + std::min(n_here + 3, window.size());
    std::uint64_t n_hashed = 0;
    for (const unsigned char* at = begin;; ++at) {
      at = std::search(at, end, std::begin(kMagic), std::end(kMagic));
      if (at == end) break;
      const auto position = static_cast<std::uint64_t>(at - begin);
      auto found = descriptor_at(window, position, data_begin);
      if (!found) continue;
      found->crc_found = detail::crc32(crc, begin + n_hashed, position - n_hashed);
      return found;
    }
    crc = detail::crc32(crc, begin + n_hashed, n_here - n_hashed);
    if (window.size() <= kChunkBytes) break;
  }
  return std::nullopt;
}

std::uint32_t crc_of(const detail::ByteSource& source, std::uint64_t offset, std::uint64_t n_bytes) {
  std::vector<unsigned char> chunk;
  std::uint32_t crc = 0;
  for (std::uint64_t done = 0; done < n_bytes; done += chunk.size()) {
    chunk.resize(std::min(kChunkBytes, n_bytes - done));
    source.read_at(offset + done, chunk.data(), chunk.size());
    crc = detail::crc32(crc, chunk.data(), chunk.size());
  }
  return crc;
}

}  // namespace

std::vector<SalvagedRecord> salvage_records(const detail::ByteSource& source) {
  using State = SalvagedRecord::State;
  std::vector<SalvagedRecord> records;
  std::uint64_t offset = 0;
  while (records.size() < kMaxRecords && offset + kLocalBytes <= source.size) {
    unsigned char header[kLocalBytes];
    source.read_at(offset, header, sizeof header);
    if (load_le32(header) != kLocalSignature) break;
    const bool has_descriptor = (load_le16(header + 6) & kFlagDescriptor) != 0, is_stored = load_le16(header + 8) == 0;
    SalvagedRecord record;
    record.name.resize(load_le16(header + 26));
    record.offset = offset + kLocalBytes + record.name.size() + load_le16(header + 28);
    if (record.offset > source.size) break;
    if (!record.name.empty()) source.read_at(offset + kLocalBytes, record.name.data(), record.name.size());
    std::uint32_t expected = load_le32(header + 14), found = 0;
    if (has_descriptor) {
      const auto descriptor = find_descriptor(source, record.offset);
      if (!descriptor) {
        record.n_bytes = source.size - record.offset;
        record.state = State::cut_off;
        records.push_back(record);
        break;
      }
      record.n_bytes = descriptor->begin - record.offset;
      expected = descriptor->crc, found = descriptor->crc_found;
      offset = descriptor->end;
    } else {
      record.n_bytes = load_le32(header + 18);
      offset = record.offset + record.n_bytes;
      if (offset > source.size) {
        record.n_bytes = source.size - record.offset;
        record.state = State::cut_off;
        records.push_back(record);
        break;
      }
      found = is_stored ? crc_of(source, record.offset, record.n_bytes) : 0;
    }
    const bool is_unchecked = !is_stored || (expected == 0 && found != 0);
    record.state = is_unchecked ? State::unchecked : expected == found ? State::whole : State::damaged;
    records.push_back(record);
  }
  return records;
}

}  // namespace ckptio::cli
