// SPDX-License-Identifier: Apache-2.0
// What miniz writes beyond APPNOTE 6.3.10 was measured on files of torch 2.13, of up to 8 GB: which fields it leaves at
// zero, what its Zip64 fields hold, where its padding goes.
#include "codec/zip_layout.h"

#include <algorithm>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

// From here on a size or an offset goes to a Zip64 field.
constexpr std::uint64_t kZip64From = 0xFFFFFFFF;

constexpr std::uint64_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22, kZip64EndBytes = 56, kLocatorBytes = 20;
constexpr std::uint64_t kFieldHeaderBytes = 4;  // of an extra field: id and length
constexpr std::uint64_t kMaxNameBytes = 0xFFFF, kMaxAlignment = 0x8000;
constexpr std::uint64_t kFlagUtf8 = 0x800, kFlagDescriptor = 8;

// Appends numbers, least significant byte first.
void put(std::string& out, std::uint64_t value, int n_bytes) {
  for (int i = 0; i < n_bytes; ++i) out += static_cast<char>(i < 8 ? value >> (8 * i) & 0xFF : 0);
}
void put16(std::string& out, std::uint64_t value) { put(out, value, 2); }
void put32(std::string& out, std::uint64_t value) { put(out, value, 4); }
void put64(std::string& out, std::uint64_t value) { put(out, value, 8); }

bool is_large(const ZipLayout::Record& record) { return record.size >= kZip64From; }
bool is_far(const ZipLayout::Record& record) { return record.header_offset >= kZip64From; }
bool has_zip64(const ZipLayout::Record& record) { return is_large(record) || is_far(record); }

// Both sizes for a large record, the offset for a far one.
std::uint64_t zip64_field_bytes(const ZipLayout::Record& record) {
  if (!has_zip64(record)) return 0;
  return kFieldHeaderBytes + (is_large(record) ? 16 : 0) + (is_far(record) ? 8 : 0);
}

// `stored_size`: the record's size within the file. The local header has 0 there, since the writer doesn't know yet.
void put_zip64_field(std::string& out, const ZipLayout::Record& record, std::uint64_t stored_size) {
  if (!has_zip64(record)) return;
  put16(out, 1);
  put16(out, zip64_field_bytes(record) - kFieldHeaderBytes);
  if (is_large(record)) {
    put64(out, record.size);
    put64(out, stored_size);
  }
  if (is_far(record)) put64(out, record.header_offset);
}

std::uint64_t descriptor_bytes(const ZipLayout::Record& record) {
  if (record.size == 0) return 0;
  return has_zip64(record) ? 24 : 16;
}

std::uint64_t flags_of(const ZipLayout::Record& record) { return kFlagUtf8 | (record.size == 0 ? 0 : kFlagDescriptor); }

void put_entry(std::string& out, const ZipLayout::Record& record, std::uint32_t crc) {
  put32(out, 0x02014b50);
  put32(out, 0);  // versions: made by, needed
  put16(out, flags_of(record));
  put16(out, 0);  // stored
  put32(out, 0);  // time, date
  put32(out, crc);
  put32(out, std::min(record.size, kZip64From));
  put32(out, std::min(record.size, kZip64From));
  put16(out, record.name.size());
  put16(out, zip64_field_bytes(record));
  out.append(2 + 2 + 2 + 4, '\0');  // comment, disk, attributes
  put32(out, std::min(record.header_offset, kZip64From));
  out += record.name;
  put_zip64_field(out, record, record.size);
}

void put_end(std::string& out, std::uint64_t n_records, std::uint64_t offset, std::uint64_t n_bytes) {
  put32(out, 0x06064b50);
  put64(out, kZip64EndBytes - 12);  // what follows
  put16(out, 0x031E);               // made by: Unix, version 3.0
  put16(out, 45);                   // needed: the first with Zip64
  put64(out, 0);                    // disks
  put64(out, n_records);
  put64(out, n_records);
  put64(out, n_bytes);
  put64(out, offset);

  put32(out, 0x07064b50);
  put32(out, 0);
  put64(out, offset + n_bytes);  // of the Zip64 end record
  put32(out, 1);

  put32(out, 0x06054b50);
  put32(out, 0);
  put16(out, std::min<std::uint64_t>(n_records, 0xFFFF));
  put16(out, std::min<std::uint64_t>(n_records, 0xFFFF));
  put32(out, std::min(n_bytes, kZip64From));
  put32(out, std::min(offset, kZip64From));
  put16(out, 0);  // comment
}

}  // namespace

ZipLayout::ZipLayout(std::uint64_t alignment) : alignment_(alignment) {
  if (alignment == 0 || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0) {
    throw ValueError("alignment of records " + std::to_string(alignment) +
                     " found, expected a power of two from 1 to " + std::to_string(kMaxAlignment));
  }
}

void ZipLayout::add(std::string name, std::uint64_t n_bytes) {
  if (name.size() > kMaxNameBytes) {
    throw ValueError("a record's name of " + std::to_string(name.size()) + " bytes found, expected at most " +
                     std::to_string(kMaxNameBytes));
  }
  Record record;
  record.name = std::move(name);
  record.size = n_bytes;
  record.header_offset = directory_offset();
  const std::uint64_t unpadded =
      record.header_offset + kLocalBytes + record.name.size() + zip64_field_bytes(record) + kFieldHeaderBytes;
  record.data_offset = (unpadded + alignment_ - 1) / alignment_ * alignment_;
  record.end_offset = record.data_offset + n_bytes + descriptor_bytes(record);
  records_.push_back(std::move(record));
}

std::uint64_t ZipLayout::directory_offset() const { return records_.empty() ? 0 : records_.back().end_offset; }

std::uint64_t ZipLayout::file_size() const {
  std::uint64_t n_bytes = directory_offset() + kZip64EndBytes + kLocatorBytes + kEndBytes;
  for (const Record& record : records_) n_bytes += kEntryBytes + record.name.size() + zip64_field_bytes(record);
  return n_bytes;
}

std::string ZipLayout::header(std::size_t index) const {
  const Record& record = records_.at(index);
  const std::uint64_t n_bytes = record.data_offset - record.header_offset;
  std::string out;
  out.reserve(n_bytes);
  put32(out, 0x04034b50);
  put16(out, 0);  // version needed
  put16(out, flags_of(record));
  out.append(2 + 4 + 4 + 4 + 4, '\0');  // method, time and date, CRC, sizes
  put16(out, record.name.size());
  put16(out, n_bytes - kLocalBytes - record.name.size());
  out += record.name;
  put_zip64_field(out, record, 0);
  const std::uint64_t n_padding = n_bytes - out.size() - kFieldHeaderBytes;
  out += "FB";
  put16(out, n_padding);
  out.append(n_padding, 'Z');
  return out;
}

std::string ZipLayout::descriptor(std::size_t index, std::uint32_t crc) const {
  const Record& record = records_.at(index);
  std::string out;
  if (record.size == 0) return out;
  const int n_size_bytes = has_zip64(record) ? 8 : 4;
  put32(out, 0x08074b50);
  put32(out, crc);
  put(out, record.size, n_size_bytes);
  put(out, record.size, n_size_bytes);
  return out;
}

std::string ZipLayout::directory(const std::vector<std::uint32_t>& crcs) const {
  std::string out;
  out.reserve(file_size() - directory_offset());
  for (std::size_t i = 0; i < records_.size(); ++i) put_entry(out, records_[i], crcs.at(i));
  const std::uint64_t n_bytes = out.size();
  put_end(out, records_.size(), directory_offset(), n_bytes);
  return out;
}

}  // namespace ckptio::detail
