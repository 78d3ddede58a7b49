// SPDX-License-Identifier: Apache-2.0
// What miniz writes beyond APPNOTE 6.3.10 was measured on files of torch 2.13, of up to 8 GB: which fields it leaves at
// zero, what its Zip64 fields hold, where its padding goes.
#include "codec/zip_layout.h"

#include <algorithm>
#include <string_view>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

// From here on a size or an offset goes to a Zip64 field.
constexpr std::uint64_t kZip64From = 0xFFFFFFFF;

constexpr std::uint64_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22, kZip64EndBytes = 56, kLocatorBytes = 20;
constexpr std::uint64_t kFieldHeaderBytes = 4;  // of an extra field: id and length
constexpr std::uint64_t kMaxNameBytes = 0xFFFF, kMaxAlignment = 0x8000;
constexpr std::uint64_t kFlagUtf8 = 0x800, kFlagDescriptor = 8;

// Where the next bytes go; numbers least significant byte first.
class Cursor {
 public:
  explicit Cursor(void* to) : at_(static_cast<unsigned char*>(to)) {}

  template <int n_bytes>
  void number(std::uint64_t value) {
    for (int i = 0; i < n_bytes; ++i) at_[i] = static_cast<unsigned char>(value >> (8 * i) & 0xFF);
    at_ += n_bytes;
  }
  void number16(std::uint64_t value) { number<2>(value); }
  void number32(std::uint64_t value) { number<4>(value); }
  void number64(std::uint64_t value) { number<8>(value); }
  void text(std::string_view bytes) { at_ = std::copy(bytes.begin(), bytes.end(), at_); }
  void repeat(char c, std::size_t n) { at_ = std::fill_n(at_, n, static_cast<unsigned char>(c)); }

 private:
  unsigned char* at_;
};

bool is_large(const ZipLayout::Record& record) { return record.size >= kZip64From; }
bool is_far(const ZipLayout::Record& record) { return record.header_offset >= kZip64From; }
bool has_zip64(const ZipLayout::Record& record) { return is_large(record) || is_far(record); }

// Both sizes for a large record, the offset for a far one.
std::uint64_t zip64_field_bytes(const ZipLayout::Record& record) {
  if (!has_zip64(record)) return 0;
  return kFieldHeaderBytes + (is_large(record) ? 16 : 0) + (is_far(record) ? 8 : 0);
}

// `stored_size`: the record's size within the file. The local header has 0 there, since the writer doesn't know yet.
void put_zip64_field(Cursor& out, const ZipLayout::Record& record, std::uint64_t stored_size) {
  if (!has_zip64(record)) return;
  out.number16(1);
  out.number16(zip64_field_bytes(record) - kFieldHeaderBytes);
  if (is_large(record)) {
    out.number64(record.size);
    out.number64(stored_size);
  }
  if (is_far(record)) out.number64(record.header_offset);
}

std::uint64_t descriptor_bytes(const ZipLayout::Record& record) {
  if (record.size == 0) return 0;
  return has_zip64(record) ? 24 : 16;
}

std::uint64_t flags_of(const ZipLayout::Record& record) { return kFlagUtf8 | (record.size == 0 ? 0 : kFlagDescriptor); }

void put_entry(Cursor& out, const ZipLayout::Record& record, std::uint32_t crc) {
  out.number32(0x02014b50);
  out.number32(0);  // versions: made by, needed
  out.number16(flags_of(record));
  out.number16(0);  // stored
  out.number32(0);  // time, date
  out.number32(crc);
  out.number32(std::min(record.size, kZip64From));
  out.number32(std::min(record.size, kZip64From));
  out.number16(record.name.size());
  out.number16(zip64_field_bytes(record));
  out.repeat('\0', 2 + 2 + 2 + 4);  // comment, disk, attributes
  out.number32(std::min(record.header_offset, kZip64From));
  out.text(record.name);
  put_zip64_field(out, record, record.size);
}

void put_end(Cursor& out, std::uint64_t n_records, std::uint64_t offset, std::uint64_t n_bytes) {
  out.number32(0x06064b50);
  out.number64(kZip64EndBytes - 12);  // what follows
  out.number16(0x031E);               // made by: Unix, version 3.0
  out.number16(45);                   // needed: the first with Zip64
  out.number64(0);                    // disks
  out.number64(n_records);
  out.number64(n_records);
  out.number64(n_bytes);
  out.number64(offset);

  out.number32(0x07064b50);
  out.number32(0);
  out.number64(offset + n_bytes);  // of the Zip64 end record
  out.number32(1);

  out.number32(0x06054b50);
  out.number32(0);
  out.number16(std::min<std::uint64_t>(n_records, 0xFFFF));
  out.number16(std::min<std::uint64_t>(n_records, 0xFFFF));
  out.number32(std::min(n_bytes, kZip64From));
  out.number32(std::min(offset, kZip64From));
  out.number16(0);  // comment
}

}  // namespace

ZipLayout::ZipLayout(std::uint64_t alignment) : alignment_(alignment) {
  if (alignment == 0 || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0) {
    throw ValueError("alignment of records " + std::to_string(alignment) +
                     " found, expected a power of two from 1 to " + std::to_string(kMaxAlignment));
  }
}

void ZipLayout::add(std::string_view name, std::uint64_t n_bytes) {
  if (name.size() > kMaxNameBytes) {
    throw ValueError("a record's name of " + std::to_string(name.size()) + " bytes found, expected at most " +
                     std::to_string(kMaxNameBytes));
  }
  Record record;
  record.name = names_.add(name);
  record.size = n_bytes;
  record.header_offset = directory_offset();
  const std::uint64_t unpadded =
      record.header_offset + kLocalBytes + name.size() + zip64_field_bytes(record) + kFieldHeaderBytes;
  record.data_offset = (unpadded + alignment_ - 1) / alignment_ * alignment_;
  record.end_offset = record.data_offset + n_bytes + descriptor_bytes(record);
  n_entry_bytes_ += kEntryBytes + name.size() + zip64_field_bytes(record);
  records_.push_back(record);
}

std::uint64_t ZipLayout::directory_offset() const { return records_.empty() ? 0 : records_.back().end_offset; }

std::uint64_t ZipLayout::file_size() const {
  return directory_offset() + n_entry_bytes_ + kZip64EndBytes + kLocatorBytes + kEndBytes;
}

void ZipLayout::put_header(std::size_t index, void* to) const {
  const Record& record = records_.at(index);
  const std::uint64_t n_bytes = record.data_offset - record.header_offset;
  Cursor out(to);
  out.number32(0x04034b50);
  out.number16(0);  // version needed
  out.number16(flags_of(record));
  out.repeat('\0', 2 + 4 + 4 + 4 + 4);  // method, time and date, CRC, sizes
  out.number16(record.name.size());
  out.number16(n_bytes - kLocalBytes - record.name.size());
  out.text(record.name);
  put_zip64_field(out, record, 0);
  const std::uint64_t n_padding =
      n_bytes - kLocalBytes - record.name.size() - zip64_field_bytes(record) - kFieldHeaderBytes;
  out.text("FB");
  out.number16(n_padding);
  out.repeat('Z', n_padding);
}

void ZipLayout::put_descriptor(std::size_t index, std::uint32_t crc, void* to) const {
  const Record& record = records_.at(index);
  if (record.size == 0) return;
  Cursor out(to);
  out.number32(0x08074b50);
  out.number32(crc);
  for (int i = 0; i < 2; ++i) {
    if (has_zip64(record)) {
      out.number64(record.size);
    } else {
      out.number32(record.size);
    }
  }
}

std::string ZipLayout::header(std::size_t index) const {
  std::string out(records_.at(index).data_offset - records_[index].header_offset, '\0');
  put_header(index, out.data());
  return out;
}

std::string ZipLayout::descriptor(std::size_t index, std::uint32_t crc) const {
  std::string out(descriptor_bytes(records_.at(index)), '\0');
  put_descriptor(index, crc, out.data());
  return out;
}

std::string ZipLayout::directory(const std::vector<std::uint32_t>& crcs) const {
  std::string bytes(file_size() - directory_offset(), '\0');
  put_directory(crcs, bytes.data());
  return bytes;
}

void ZipLayout::put_directory(const std::vector<std::uint32_t>& crcs, void* to) const {
  Cursor out(to);
  for (std::size_t i = 0; i < records_.size(); ++i) put_entry(out, records_[i], crcs.at(i));
  put_end(out, records_.size(), directory_offset(), n_entry_bytes_);
}

}  // namespace ckptio::detail
