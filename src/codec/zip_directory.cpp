// SPDX-License-Identifier: Apache-2.0
// A zip file, from its end: end record (with a comment behind it), before it perhaps a Zip64 locator, before that the
// Zip64 end record, before that the directory: one entry for each record. Before all of them the records: a local
// header, the data, perhaps a descriptor. Byte layouts: APPNOTE 6.3.10, section 4.3.
#include "codec/zip_directory.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <numeric>
#include <optional>
#include <string_view>

#include "ckptio/error.h"
#include "codec/checksum.h"
#include "codec/little_endian.h"

namespace ckptio::detail {
namespace {

using Bytes = std::vector<unsigned char>;

constexpr std::uint32_t kLocalSignature = 0x04034b50;
constexpr std::uint32_t kEntrySignature = 0x02014b50;
constexpr std::uint32_t kEndSignature = 0x06054b50;
constexpr std::uint32_t kZip64EndSignature = 0x06064b50;
constexpr std::uint32_t kZip64LocatorSignature = 0x07064b50;

// MS-DOS's attribute of a directory. Readers give no bytes for such an entry: whoever reads it keeps what was in
// memory.
constexpr std::uint32_t kAttributeDirectory = 1u << 4;

constexpr std::uint64_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22, kZip64EndBytes = 56, kLocatorBytes = 20;
constexpr std::uint64_t kMaxCommentBytes = 0xFFFF;  // its length has 16 bits

// "Look in the Zip64 record": fields of 16 and 32 bits that were too small.
constexpr std::uint32_t kInZip64_16 = 0xFFFF, kInZip64_32 = 0xFFFFFFFF;

constexpr unsigned kFlagDescriptor = 1u << 3;  // CRC and sizes follow the data, the local header lacks them
// Encrypted (0), patch data (5), strongly encrypted (6), hidden headers (13): the bytes are not the content.
constexpr unsigned kFlagsRefused = 1u << 0 | 1u << 5 | 1u << 6 | 1u << 13;

// Deflate makes at most 258 bytes of 2 bits (a length and a distance code of one bit each): 1032 of one byte.
constexpr std::uint64_t kMaxDeflateRatio = 1032;

// Names in torch's files have some tens of bytes; the limit keeps messages readable, not files out.
constexpr std::size_t kMaxQuotedBytes = 100;

// True if `n_bytes` bytes from `offset` on end at or before `end`, without overflow.
bool fits(std::uint64_t offset, std::uint64_t n_bytes, std::uint64_t end) {
  return offset <= end && n_bytes <= end - offset;
}

std::string hex(std::uint64_t value) {
  std::string digits;
  do digits.insert(digits.begin(), "0123456789abcdef"[value & 15]);
  while ((value >>= 4) != 0);
  return "0x" + digits;
}

std::string found_expected(const std::string& field, std::uint64_t found, const std::string& expected) {
  return field + " " + std::to_string(found) + " found, " + expected + " expected";
}

Bytes read_bytes(const ByteSource& source, std::uint64_t offset, std::uint64_t n_bytes) {
  Bytes bytes(n_bytes);
  if (n_bytes > 0) source.read_at(offset, bytes.data(), bytes.size());
  return bytes;
}

// The same in memory that is there already, and grows with what is read.
const unsigned char* read_into(Bytes& buffer, const ByteSource& source, std::uint64_t offset, std::uint64_t n_bytes) {
  if (buffer.size() < n_bytes) buffer.resize(n_bytes);
  if (n_bytes > 0) source.read_at(offset, buffer.data(), n_bytes);
  return buffer.data();
}

// What the end of the file says about the directory.
struct Directory {
  std::uint64_t offset = 0, n_bytes = 0, n_records = 0;
};

[[noreturn]] void throw_no_end_record(const ByteSource& source, const Bytes& tail,
                                      std::optional<std::uint64_t> nearest) {
  const Bytes head = read_bytes(source, 0, std::min<std::uint64_t>(source.size, 4));
  const Bytes magic = {'P', 'K', 3, 4};
  const std::string size = " (" + std::to_string(source.size) + " bytes)";
  if (nearest) {
    const unsigned char* end = tail.data() + (*nearest - (source.size - tail.size()));
    const std::uint64_t n_behind = source.size - *nearest - kEndBytes;
    throw_corrupt(source, "end record", *nearest,
                  found_expected("bytes behind it", n_behind,
                                 std::to_string(load_le16(end + 20)) + " (the length of its comment)"));
  }
  if (std::equal(head.begin(), head.end(), magic.begin())) {
    throw CorruptError("cannot read '" + source.name + "': the file is truncated" + size +
                       ": it begins as a zip archive, but its end record is missing");
  }
  std::string begin;
  for (const unsigned char byte : head) begin += " " + hex(byte);
  throw CorruptError("cannot read '" + source.name + "': not a zip archive" + size + ": it begins with the bytes" +
                     begin + ", expected 'PK' 0x3 0x4");
}

// Where the end record begins: its comment must reach exactly to the end of the file. From the back, so that a
// comment cannot hide the real one.
std::uint64_t find_end_record(const ByteSource& source, const Bytes& tail) {
  std::optional<std::uint64_t> nearest;
  const std::uint64_t tail_offset = source.size - tail.size();
  for (std::uint64_t i = tail.size() < kEndBytes ? 0 : tail.size() - kEndBytes + 1; i-- > 0;) {
    if (load_le32(&tail[i]) != kEndSignature) continue;
    if (load_le16(&tail[i + 20]) == tail.size() - i - kEndBytes) return tail_offset + i;
    if (!nearest) nearest = tail_offset + i;
  }
  throw_no_end_record(source, tail, nearest);
}

// A field of the end record beside the same in the Zip64 record: equal, or the mark that says "look there".
void require_agreement(const ByteSource& source, std::uint64_t end, const char* field, std::uint64_t small,
                       std::uint64_t mark, std::uint64_t large) {
  if (small != mark && small != large) {
    throw_corrupt(source, "end record", end,
                  found_expected(field, small, std::to_string(large) + " (as in the Zip64 end record)"));
  }
}

void require_one_disk(const ByteSource& source, const char* where, std::uint64_t offset, std::uint64_t disk,
                      std::uint64_t directory_disk, std::uint64_t n_here, std::uint64_t n_total) {
  if (disk != 0 || directory_disk != 0) {
    throw_corrupt(source, where, offset, found_expected("disk number", std::max(disk, directory_disk), "0"));
  }
  if (n_here != n_total) {
    throw_corrupt(source, where, offset,
                  found_expected("number of records on this disk", n_here, std::to_string(n_total)));
  }
}

// Reads the Zip64 end record that the locator before `end` points to. Returns its offset, where the directory ends.
std::uint64_t read_zip64_end(const ByteSource& source, std::uint64_t end, const unsigned char* locator,
                             Directory& out) {
  const std::uint64_t locator_offset = end - kLocatorBytes;
  const std::uint64_t offset = load_le64(locator + 8);
  if (load_le32(locator + 4) != 0 || load_le32(locator + 16) > 1) {
    throw_corrupt(source, "Zip64 locator", locator_offset, "more than one disk found, 1 expected");
  }
  if (!fits(offset, kZip64EndBytes, locator_offset)) {
    throw_corrupt(
        source, "Zip64 locator", locator_offset,
        found_expected("offset of the Zip64 end record", offset, "at most " + std::to_string(locator_offset)));
  }
  const Bytes record = read_bytes(source, offset, kZip64EndBytes);
  const unsigned char* p = record.data();
  if (load_le32(p) != kZip64EndSignature) {
    throw_corrupt(source, "Zip64 end record", offset,
                  "signature " + hex(load_le32(p)) + " found, " + hex(kZip64EndSignature) + " expected");
  }
  // Its length does not count the signature and the length itself.
  if (load_le64(p + 4) != locator_offset - offset - 12) {
    throw_corrupt(source, "Zip64 end record", offset,
                  found_expected("length", load_le64(p + 4), std::to_string(locator_offset - offset - 12)));
  }
  out = {load_le64(p + 48), load_le64(p + 40), load_le64(p + 32)};
  require_one_disk(source, "Zip64 end record", offset, load_le32(p + 16), load_le32(p + 20), load_le64(p + 24),
                   out.n_records);
  return offset;
}

Directory find_directory(const ByteSource& source) {
  if (source.size == 0) throw CorruptError("cannot read '" + source.name + "': the file is empty");
  const Bytes tail =
      read_bytes(source, source.size - std::min(source.size, kEndBytes + kMaxCommentBytes + kLocatorBytes),
                 std::min(source.size, kEndBytes + kMaxCommentBytes + kLocatorBytes));
  const std::uint64_t end = find_end_record(source, tail);
  const unsigned char* p = tail.data() + (end - (source.size - tail.size()));
  const Directory plain = {load_le32(p + 16), load_le32(p + 12), load_le16(p + 10)};

  Directory directory = plain;
  std::uint64_t directory_end = end;
  if (end >= kLocatorBytes && load_le32(p - kLocatorBytes) == kZip64LocatorSignature) {
    directory_end = read_zip64_end(source, end, p - kLocatorBytes, directory);
    require_agreement(source, end, "number of records", plain.n_records, kInZip64_16, directory.n_records);
    require_agreement(source, end, "size of the directory", plain.n_bytes, kInZip64_32, directory.n_bytes);
    require_agreement(source, end, "offset of the directory", plain.offset, kInZip64_32, directory.offset);
  }
  require_one_disk(source, "end record", end, load_le16(p + 4), load_le16(p + 6), load_le16(p + 8), plain.n_records);
  if (!fits(directory.offset, directory.n_bytes, directory_end) ||
      directory.offset + directory.n_bytes != directory_end) {
    throw_corrupt(source, "end record", end,
                  "directory of " + std::to_string(directory.n_bytes) + " bytes at byte " +
                      std::to_string(directory.offset) + " found, one that ends at byte " +
                      std::to_string(directory_end) + " expected");
  }
  // Also what keeps the memory for the records in proportion to the file.
  if (directory.n_records > directory.n_bytes / kEntryBytes) {
    throw_corrupt(source, "end record", end,
                  found_expected("number of records", directory.n_records,
                                 "at most " + std::to_string(directory.n_bytes / kEntryBytes) + " (the directory has " +
                                     std::to_string(directory.n_bytes) + " bytes)"));
  }
  return directory;
}

// Sizes, CRC and offset as one header has them, with what a Zip64 extra field adds.
struct HeaderFields {
  std::uint64_t size = 0, compressed_size = 0, header_offset = 0;
};

// The data of the extra field with id 1; empty if there is none. Nullopt if there are two, or if it overhangs.
std::optional<std::string_view> find_zip64_extra(std::string_view extra) {
  std::optional<std::string_view> found;
  while (extra.size() >= 4) {
    const auto* p = reinterpret_cast<const unsigned char*>(extra.data());
    const std::size_t n_bytes = load_le16(p + 2);
    if (n_bytes > extra.size() - 4) return std::nullopt;
    if (load_le16(p) == 1) {
      if (found) return std::nullopt;
      found = extra.substr(4, n_bytes);
    }
    extra.remove_prefix(4 + n_bytes);
  }
  return found ? found : std::string_view{};  // fewer than 4 bytes left: padding of some aligning tools
}

// Replaces the fields that hold the mark by those of the Zip64 extra field, in the order that APPNOTE 4.5.3 gives.
// False if that field is damaged or too short. Without one, a mark is taken as the number it is.
bool apply_zip64(HeaderFields& fields, std::string_view extra) {
  const auto zip64 = find_zip64_extra(extra);
  if (!zip64) return false;
  if (zip64->data() == nullptr) return true;
  const auto* p = reinterpret_cast<const unsigned char*>(zip64->data());
  std::size_t n_left = zip64->size();
  for (std::uint64_t* field : {&fields.size, &fields.compressed_size, &fields.header_offset}) {
    if (*field != kInZip64_32) continue;
    if (n_left < 8) return false;
    *field = load_le64(p);
    p += 8;
    n_left -= 8;
  }
  return true;
}

void check_name(const ByteSource& source, std::uint64_t offset, std::string_view name) {
  const auto refuse = [&](const char* what) { throw_corrupt(source, "record " + quote_name(name), offset, what); };
  if (name.empty()) refuse("an empty name found");
  if (name.find('\0') != std::string::npos) refuse("a NUL byte found in its name");
  const auto is_separator = [](char c) { return c == '/' || c == '\\'; };
  if (is_separator(name[0]) || (name.size() > 1 && name[1] == ':'))
    refuse("an absolute path found as its name, a relative one expected");
  for (std::size_t at = name.find(".."); at != name.npos; at = name.find("..", at + 1)) {
    const bool begins = at == 0 || is_separator(name[at - 1]);
    if (begins && (at + 2 == name.size() || is_separator(name[at + 2]))) refuse("'..' found in its name");
  }
}

// Method, flags, attributes and sizes that cannot be: before any data is looked at.
void check_entry(const ByteSource& source, std::uint64_t offset, const ZipRecord& record, const unsigned char* entry) {
  const unsigned flags = load_le16(entry + 8), method = load_le16(entry + 10);
  const auto refuse = [&](const std::string& what) {
    throw_corrupt(source, "record " + quote_name(record.name), offset, what);
  };
  const bool is_directory = (load_le32(entry + 38) & kAttributeDirectory) != 0 || record.name.back() == '/';
  if (is_directory && record.size != 0) refuse(found_expected("size of a directory", record.size, "0"));
  if ((flags & kFlagsRefused) != 0) {
    refuse("encryption or patch flags " + hex(flags & kFlagsRefused) + " found, none expected");
  }
  if (method != 0 && method != 8) refuse(found_expected("compression method", method, "0 (stored) or 8 (deflated)"));
  if (method == 0 && record.size != record.compressed_size) {
    refuse(found_expected("size of stored data", record.compressed_size, std::to_string(record.size)));
  }
  if (method == 8 && record.size / kMaxDeflateRatio > record.compressed_size) {
    refuse(found_expected("size", record.size,
                          "at most " + std::to_string(kMaxDeflateRatio) + " times the " +
                              std::to_string(record.compressed_size) + " compressed bytes"));
  }
}

// Parses the entry at `position` of the directory and moves behind it.
ZipRecord parse_entry(const ByteSource& source, const Directory& directory, const Bytes& bytes,
                      std::uint64_t& position) {
  const std::uint64_t offset = directory.offset + position;
  const unsigned char* p = bytes.data() + position;
  if (!fits(position, kEntryBytes, bytes.size()) || load_le32(p) != kEntrySignature) {
    throw_corrupt(source, "directory", offset, "no entry found, the signature " + hex(kEntrySignature) + " expected");
  }
  const std::uint64_t n_name = load_le16(p + 28), n_extra = load_le16(p + 30), n_comment = load_le16(p + 32);
  if (!fits(position + kEntryBytes, n_name + n_extra + n_comment, bytes.size())) {
    throw_corrupt(source, "directory", offset,
                  found_expected("length of an entry", kEntryBytes + n_name + n_extra + n_comment,
                                 "at most " + std::to_string(bytes.size() - position)));
  }
  const auto* text = reinterpret_cast<const char*>(p + kEntryBytes);
  ZipRecord record;
  record.name = {text, n_name};
  check_name(source, offset, record.name);
  HeaderFields fields = {load_le32(p + 24), load_le32(p + 20), load_le32(p + 42)};
  if (!apply_zip64(fields, {text + n_name, n_extra})) {
    throw_corrupt(source, "record " + quote_name(record.name), offset, "damaged extra fields found");
  }
  if (const unsigned disk = load_le16(p + 34); disk != 0) {
    throw_corrupt(source, "record " + quote_name(record.name), offset, found_expected("disk number", disk, "0"));
  }
  record.size = fields.size;
  record.compressed_size = fields.compressed_size;
  record.header_offset = fields.header_offset;
  record.crc = load_le32(p + 16);
  check_entry(source, offset, record, p);
  record.method = ZipMethod{load_le16(p + 10)};
  position += kEntryBytes + n_name + n_extra + n_comment;
  return record;
}

// CRC and sizes in the local header `p`, if it has them, against those of the directory.
void check_local_sizes(const ByteSource& source, const ZipRecord& record, const unsigned char* p,
                       std::string_view extra) {
  const auto refuse = [&](const std::string& what) {
    throw_corrupt(source, "record " + quote_name(record.name), record.header_offset, what);
  };
  HeaderFields fields = {load_le32(p + 22), load_le32(p + 18), 0};
  if (!apply_zip64(fields, extra)) refuse("damaged extra fields found in its local header");
  constexpr const char* kAsInDirectory = " (as in the directory)";
  if (fields.size != record.size) {
    refuse(found_expected("size in its local header", fields.size, std::to_string(record.size) + kAsInDirectory));
  }
  if (fields.compressed_size != record.compressed_size) {
    refuse(found_expected("compressed size in its local header", fields.compressed_size,
                          std::to_string(record.compressed_size) + kAsInDirectory));
  }
  if (load_le32(p + 14) != record.crc) {
    refuse("CRC " + hex(load_le32(p + 14)) + " found in its local header, " + hex(record.crc) + kAsInDirectory +
           " expected");
  }
}

// Reads the local header, holds it against the directory's entry and sets data_offset. Returns where the data ends.
// `buffer`: memory to read into, kept from one to the next.
std::uint64_t check_local_header(const ByteSource& source, std::uint64_t directory_offset, ZipRecord& record,
                                 Bytes& buffer) {
  const std::uint64_t offset = record.header_offset;
  const auto refuse = [&](const std::string& what) {
    throw_corrupt(source, "record " + quote_name(record.name), offset, what);
  };
  if (!fits(offset, kLocalBytes + record.name.size(), directory_offset)) {
    refuse("a local header that does not end before the directory (byte " + std::to_string(directory_offset) +
           ") found");
  }
  const unsigned char* const header = read_into(buffer, source, offset, kLocalBytes + record.name.size());
  const unsigned flags = load_le16(header + 6), method = load_le16(header + 8);
  const std::uint64_t n_name = load_le16(header + 26), n_extra = load_le16(header + 28);
  if (load_le32(header) != kLocalSignature) {
    refuse("signature " + hex(load_le32(header)) + " found, a local header (" + hex(kLocalSignature) + ") expected");
  }
  if (method != static_cast<unsigned>(record.method) || (flags & kFlagsRefused) != 0) {
    refuse("method " + std::to_string(method) + " and flags " + hex(flags) +
           " found in its local header, which differ from the directory");
  }
  const std::string_view name(reinterpret_cast<const char*>(header + kLocalBytes), record.name.size());
  if (n_name != record.name.size() || name != record.name) {
    refuse("another name, " + quote_name(name) + ", found in its local header");
  }
  record.data_offset = offset + kLocalBytes + n_name + n_extra;
  if (!fits(record.data_offset, record.compressed_size, directory_offset)) {
    refuse(found_expected("compressed size", record.compressed_size,
                          "an end before the directory (byte " + std::to_string(directory_offset) + ")"));
  }
  if ((flags & kFlagDescriptor) == 0) {
    const Bytes extra = read_bytes(source, offset + kLocalBytes + n_name, n_extra);
    check_local_sizes(source, record, header, {reinterpret_cast<const char*>(extra.data()), extra.size()});
  }
  return record.data_offset + record.compressed_size;
}

// A piece of the file in memory, of which headers are mostly read; and the file.
ByteSource piece_source(const ByteSource& source, std::uint64_t begin, std::size_t n_bytes,
                        const unsigned char* bytes) {
  const auto& read_at = source.scan ? source.scan->read_at : source.read_at;
  return {source.name, source.size,
          [=, &read_at](std::uint64_t offset, void* destination, std::size_t n_wanted) {
            const bool is_inside = offset >= begin && fits(offset - begin, n_wanted, n_bytes);
            if (!is_inside) return read_at(offset, destination, n_wanted);
            std::memcpy(destination, bytes + (offset - begin), n_wanted);
          },
          nullptr};
}

// Goes through the records in the order of the file: cheap to read, and overlaps are between neighbours.
class RecordScan {
 public:
  RecordScan(const ByteSource& source, std::uint64_t directory_offset, std::vector<ZipRecord>& records)
      : source_(source), directory_offset_(directory_offset), records_(records), order_(records.size()) {
    std::iota(order_.begin(), order_.end(), std::uint32_t{0});
    const auto is_before = [&](std::uint32_t a, std::uint32_t b) {
      return records[a].header_offset < records[b].header_offset;
    };
    if (!std::is_sorted(order_.begin(), order_.end(), is_before)) std::sort(order_.begin(), order_.end(), is_before);
    cut();
  }

  void run() {
    for (std::size_t i = 0; i < std::min(kPartsAhead, parts_.size()); ++i) prefetch(i);
    if (source_.scan && parts_.size() > 1) {
      source_.scan->run(parts_.size(), [this](std::size_t i, unsigned char* room) { scan(i, room); });
    } else {
      Bytes room;
      for (std::size_t i = 0; i < parts_.size(); ++i) {
        if (room.size() < n_piece_bytes(parts_[i])) room.resize(n_piece_bytes(parts_[i]));
        scan(i, room.data());
      }
    }
    std::uint64_t end = 0;
    for (std::size_t i = 0; i < parts_.size(); ++i) {  // the first error is the one to tell
      if (i > 0) require_apart(parts_[i].first, end);
      if (parts_[i].error) std::rethrow_exception(parts_[i].error);
      end = parts_[i].end;
    }
  }

 private:
  // Records that are gone through by one thread.
  struct Part {
    std::size_t first = 0, last = 0;  // in order_, the last exclusive
    std::uint64_t end = 0;            // of the last one's data
    std::exception_ptr error{};
  };

  ZipRecord& record(std::size_t i) const { return records_[order_[i]]; }

  // Those that stand close together, or whose contents are wanted, so that they are read at once.
  void cut() {
    const bool all_wanted = source_.scan && source_.scan->check_contents;
    for (std::size_t i = 0; i < order_.size(); ++i) {
      const std::uint64_t offset = record(i).header_offset;
      const bool is_next = !parts_.empty() && (all_wanted || offset - record(i - 1).header_offset <= kDenseBytes) &&
                           offset - record(parts_.back().first).header_offset < ScanSource::kRoomBytes / 2;
      if (!is_next) parts_.push_back({i, i});
      parts_.back().last = i + 1;
    }
  }

  void scan(std::size_t index, unsigned char* room) noexcept {
    Part& part = parts_[index];
    try {
      if (index + kPartsAhead < parts_.size()) prefetch(index + kPartsAhead);
      const std::uint64_t begin = std::min(record(part.first).header_offset, directory_offset_);
      const std::size_t n_bytes = n_piece_bytes(part);
      const auto& read_at = source_.scan ? source_.scan->read_at : source_.read_at;
      if (n_bytes > 0) read_at(begin, room, n_bytes);
      const ByteSource piece = piece_source(source_, begin, n_bytes, room);
      Bytes buffer;
      for (std::size_t i = part.first; i < part.last; ++i) {
        if (i > part.first) require_apart(i, part.end);
        part.end = check_local_header(piece, directory_offset_, record(i), buffer);
        if (source_.scan && source_.scan->check_contents) check_content(record(i), begin, n_bytes, room);
      }
    } catch (...) {
      part.error = std::current_exception();
    }
  }

  void prefetch(std::size_t index) const {
    const std::uint64_t begin = std::min(record(parts_[index].first).header_offset, directory_offset_);
    if (source_.prefetch) source_.prefetch(begin, n_piece_bytes(parts_[index]));
  }

  // What is read of a part at once: up to the last header, or to its end if contents are wanted and not too large.
  std::size_t n_piece_bytes(const Part& part) const {
    const auto clamped = [this](std::uint64_t offset) { return std::min(offset, directory_offset_); };
    const std::uint64_t begin = clamped(record(part.first).header_offset);
    const std::uint64_t next = part.last < order_.size() ? record(part.last).header_offset : directory_offset_;
    const std::uint64_t n_bytes = clamped(next) - begin;
    const bool all_wanted = source_.scan && source_.scan->check_contents;
    if (all_wanted && n_bytes <= ScanSource::kRoomBytes) return n_bytes;
    return std::min(n_bytes, clamped(record(part.last - 1).header_offset) - begin + kHeadBytes);
  }

  void check_content(ZipRecord& record, std::uint64_t begin, std::size_t n_bytes, const unsigned char* piece) const {
    const bool is_there =
        record.method == ZipMethod::stored && record.crc != 0 && fits(record.data_offset - begin, record.size, n_bytes);
    if (!is_there) return;
    const std::uint32_t found = crc32(0, piece + (record.data_offset - begin), record.size);
    check_crc(source_, record.name, record.data_offset, record.size, record.crc, found);
    record.is_checked = true;
  }

  void require_apart(std::size_t i, std::uint64_t end_before) const {
    if (record(i).header_offset >= end_before) return;
    throw_corrupt(
        source_, "record " + quote_name(record(i).name), record(i).header_offset,
        "overlaps record " + quote_name(record(i - 1).name) + ", which ends at byte " + std::to_string(end_before));
  }

  // A page, which has room for any header of torch's.
  static constexpr std::uint64_t kHeadBytes = 4096;
  // Between headers, so much is read and thrown away rather than asking the kernel once more.
  static constexpr std::uint64_t kDenseBytes = 2 * kHeadBytes;

  // So many are fetched ahead: one after the other, each would wait for the disk, 0.1 ms or more.
  static constexpr std::size_t kPartsAhead = 64;

  const ByteSource& source_;
  const std::uint64_t directory_offset_;
  std::vector<ZipRecord>& records_;
  std::vector<std::uint32_t> order_;  // indices of records by their offsets
  std::vector<Part> parts_;
};

void check_local_headers(const ByteSource& source, std::uint64_t directory_offset, std::vector<ZipRecord>& records) {
  if (records.empty() && directory_offset != 0) {
    throw_corrupt(source, "directory", directory_offset, found_expected("bytes before it", directory_offset, "0"));
  }
  const auto first = std::min_element(records.begin(), records.end(), [](const ZipRecord& a, const ZipRecord& b) {
    return a.header_offset < b.header_offset;
  });
  if (first != records.end() && first->header_offset != 0) {
    throw_corrupt(source, "record " + quote_name(first->name), first->header_offset,
                  found_expected("bytes before the first record", first->header_offset, "0"));
  }
  RecordScan(source, directory_offset, records).run();
}

}  // namespace

std::string quote_name(std::string_view name) {
  std::string quoted = "'";
  for (const char c : name.substr(0, kMaxQuotedBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      quoted += c;
    } else {
      quoted += std::string("\\x") + "0123456789abcdef"[byte >> 4] + "0123456789abcdef"[byte & 15];
    }
  }
  return quoted + (name.size() > kMaxQuotedBytes ? "...'" : "'");
}

void throw_corrupt(const ByteSource& source, const std::string& where, std::uint64_t offset, const std::string& what) {
  throw CorruptError("cannot read '" + source.name + "': " + where + " at byte " + std::to_string(offset) + ": " +
                     what);
}

void check_crc(const ByteSource& source, std::string_view record, std::uint64_t offset, std::uint64_t n_bytes,
               std::uint32_t expected, std::uint32_t found) {
  if (expected == 0 || expected == found) return;
  const auto hex = [](std::uint32_t crc) {
    std::string digits;
    for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[crc >> shift & 15];
    return digits;
  };
  throw_corrupt(source, "record " + quote_name(record), offset,
                "CRC-32 " + hex(found) + " found in its " + std::to_string(n_bytes) + " bytes, " + hex(expected) +
                    " expected: the data is damaged");
}

ZipDirectory read_zip_directory(const ByteSource& source) {
  const Directory directory = find_directory(source);
  ZipDirectory result;
  result.bytes = read_bytes(source, directory.offset, directory.n_bytes);
  result.records.reserve(directory.n_records);
  std::uint64_t position = 0;
  for (std::uint64_t i = 0; i < directory.n_records; ++i)
    result.records.push_back(parse_entry(source, directory, result.bytes, position));
  if (position != result.bytes.size()) {
    throw_corrupt(source, "directory", directory.offset + position,
                  found_expected("bytes behind its last entry", result.bytes.size() - position, "0"));
  }
  check_local_headers(source, directory.offset, result.records);
  return result;
}

}  // namespace ckptio::detail
