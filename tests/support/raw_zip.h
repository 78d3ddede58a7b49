// SPDX-License-Identifier: Apache-2.0
// RawZip: writes zip files byte by byte, every field of which a test may set to what it should not be.
//
//   RawZip zip;
//   zip.add("archive/data.pkl", "content");
//   zip.records[0].central.crc = 1;
//   const std::string bytes = zip.bytes();
//
// A field that is not set gets the right value. By default the layout is that of torch.save: descriptors, padding to
// 64 bytes, Zip64 end records.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codec/checksum.h"

namespace ckptio::test {

template <typename T>
using Override = std::optional<T>;

inline std::string le(std::uint64_t value, int n_bytes) {
  std::string bytes;
  for (int i = 0; i < n_bytes; ++i) bytes += static_cast<char>(i < 8 ? value >> (8 * i) & 0xFF : 0);
  return bytes;
}

struct RawZipRecord {
  std::string name;
  std::string data;  // as it stands in the file, compressed or not

  struct Header {
    Override<std::uint32_t> signature{}, crc{}, compressed_size{}, size{}, offset{}, attributes{};
    Override<std::uint16_t> version{}, flags{}, method{}, name_length{}, extra_length{}, comment_length{}, disk{};
    Override<std::string> name{}, extra{};
  };
  Header local{}, central{};
  std::uint32_t crc = 0;       // of the content
  std::uint64_t size = 0;      // of the content
  std::uint16_t method = 0;    // both headers
  bool has_descriptor = true;  // flag 8, no CRC and sizes in the local header
  bool has_padding = true;     // torch's FB extra field
  bool is_written = true;      // false: in the directory only
  std::uint64_t written_at = 0;
};

class RawZip {
 public:
  std::vector<RawZipRecord> records;
  bool has_zip64 = true;                         // writes the Zip64 end record and its locator
  std::string before, between, behind, comment;  // bytes at the front; before the directory; behind it; comment

  struct End {
    Override<std::uint32_t> signature{}, directory_bytes{}, directory_offset{};
    Override<std::uint16_t> disk{}, directory_disk{}, n_here{}, n_total{}, comment_length{};
  } end{};
  struct Zip64 {
    Override<std::uint32_t> signature{}, disk{}, directory_disk{};
    Override<std::uint64_t> length{}, n_here{}, n_total{}, directory_bytes{}, directory_offset{};
  } zip64{};
  struct Locator {
    Override<std::uint32_t> signature{}, disk{}, n_disks{};
    Override<std::uint64_t> offset{};
  } locator{};

  // A stored record; a deflated one if `content` is given, of which `data` is the compressed form.
  RawZipRecord& add(const std::string& name, const std::string& data, const std::optional<std::string>& content = {}) {
    RawZipRecord record;
    record.name = name;
    record.data = data;
    record.crc = detail::crc32(0, content.value_or(data).data(), content.value_or(data).size());
    record.size = content.value_or(data).size();
    record.method = content ? 8 : 0;
    records.push_back(record);
    return records.back();
  }

  std::string bytes() {
    std::string out = before;
    for (auto& record : records) {
      record.written_at = out.size();
      if (record.is_written) append_record(out, record);
    }
    out += between;
    const std::uint64_t directory_offset = out.size();
    for (const auto& record : records) append_entry(out, record);
    const std::uint64_t directory_bytes = out.size() - directory_offset;
    out += behind;
    if (has_zip64) append_zip64(out, directory_offset, directory_bytes);
    append_end(out, directory_offset, directory_bytes);
    return out;
  }

 private:
  static void append_record(std::string& out, const RawZipRecord& r) {
    const auto& h = r.local;
    const bool late = r.has_descriptor;
    const std::string name = h.name.value_or(r.name);
    std::string extra;
    if (r.has_padding) {
      const std::size_t n_padding = (64 - (out.size() + 30 + name.size() + 4) % 64) % 64;
      extra = "FB" + le(n_padding, 2) + std::string(n_padding, 'Z');
    }
    extra = h.extra.value_or(extra);
    out += le(h.signature.value_or(0x04034b50), 4) + le(h.version.value_or(0), 2);
    out += le(h.flags.value_or(late ? 0x808 : 0x800), 2) + le(h.method.value_or(r.method), 2) + le(0, 4);
    out += le(h.crc.value_or(late ? 0 : r.crc), 4);
    out += le(h.compressed_size.value_or(late ? 0 : static_cast<std::uint32_t>(r.data.size())), 4);
    out += le(h.size.value_or(late ? 0 : static_cast<std::uint32_t>(r.size)), 4);
    out += le(h.name_length.value_or(static_cast<std::uint16_t>(name.size())), 2);
    out += le(h.extra_length.value_or(static_cast<std::uint16_t>(extra.size())), 2) + name + extra + r.data;
    if (late) out += le(0x08074b50, 4) + le(r.crc, 4) + le(r.data.size(), 4) + le(r.size, 4);
  }

  static void append_entry(std::string& out, const RawZipRecord& r) {
    const auto& h = r.central;
    const std::string name = h.name.value_or(r.name), extra = h.extra.value_or("");
    out += le(h.signature.value_or(0x02014b50), 4) + le(0, 2) + le(h.version.value_or(0), 2);
    out += le(h.flags.value_or(r.has_descriptor ? 0x808 : 0x800), 2) + le(h.method.value_or(r.method), 2) + le(0, 4);
    out += le(h.crc.value_or(r.crc), 4);
    out += le(h.compressed_size.value_or(static_cast<std::uint32_t>(r.data.size())), 4);
    out += le(h.size.value_or(static_cast<std::uint32_t>(r.size)), 4);
    out += le(h.name_length.value_or(static_cast<std::uint16_t>(name.size())), 2);
    out += le(h.extra_length.value_or(static_cast<std::uint16_t>(extra.size())), 2);
    out += le(h.comment_length.value_or(0), 2) + le(h.disk.value_or(0), 2) + le(0, 2);
    out += le(h.attributes.value_or(0), 4);
    out += le(h.offset.value_or(static_cast<std::uint32_t>(r.written_at)), 4) + name + extra;
  }

  void append_zip64(std::string& out, std::uint64_t directory_offset, std::uint64_t directory_bytes) const {
    const std::uint64_t offset = out.size();
    out += le(zip64.signature.value_or(0x06064b50), 4) + le(zip64.length.value_or(44), 8) + le(0x2D001E, 4);
    out += le(zip64.disk.value_or(0), 4) + le(zip64.directory_disk.value_or(0), 4);
    out += le(zip64.n_here.value_or(records.size()), 8) + le(zip64.n_total.value_or(records.size()), 8);
    out += le(zip64.directory_bytes.value_or(directory_bytes), 8);
    out += le(zip64.directory_offset.value_or(directory_offset), 8);
    out += le(locator.signature.value_or(0x07064b50), 4) + le(locator.disk.value_or(0), 4);
    out += le(locator.offset.value_or(offset), 8) + le(locator.n_disks.value_or(1), 4);
  }

  void append_end(std::string& out, std::uint64_t directory_offset, std::uint64_t directory_bytes) const {
    const auto n_records = static_cast<std::uint16_t>(records.size());
    out +=
        le(end.signature.value_or(0x06054b50), 4) + le(end.disk.value_or(0), 2) + le(end.directory_disk.value_or(0), 2);
    out += le(end.n_here.value_or(n_records), 2) + le(end.n_total.value_or(n_records), 2);
    out += le(end.directory_bytes.value_or(static_cast<std::uint32_t>(directory_bytes)), 4);
    out += le(end.directory_offset.value_or(static_cast<std::uint32_t>(directory_offset)), 4);
    out += le(end.comment_length.value_or(static_cast<std::uint16_t>(comment.size())), 2) + comment;
  }
};

}  // namespace ckptio::test
