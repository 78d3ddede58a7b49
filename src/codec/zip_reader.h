// SPDX-License-Identifier: Apache-2.0
// ZipReader: the records of a zip archive that may be damaged or hostile, as torch.save and others write them.
//
// Follows PKWARE's APPNOTE 6.3.10 as far as PyTorch's archives go (caffe2/serialize/inline_container.cc of 2.13):
// methods 0 (stored) and 8 (deflated), Zip64, data descriptors, one disk. It is strict where others guess, so that no
// two readers of the directory can see different content in one file: what two places of the file say must agree
// (except for descriptors, which such readers do not look at), records must not overlap, the file begins with its first
// record and ends with its end record, and no two names may be equal but for case (PyTorch looks names up without it).
// All else in a file is a CorruptError.
//
// It is not a writer, and knows nothing of what the records mean.
// Memory: the directory, which is part of the file, and what is read; never what the file merely claims.
// Threads: safe for reading from several at once if the source is.
// Errors: CorruptError "cannot read 'FILE': record 'NAME' at byte N: what was found, what was expected"; whatever the
// source throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "codec/byte_source.h"
#include "hash/hash_table.h"

namespace ckptio::detail {

enum class ZipMethod : std::uint16_t { stored = 0, deflated = 8 };

struct ZipRecord {
  std::string_view name;              // as in the file, with its first folder ("archive/data.pkl")
  std::uint64_t size = 0;             // bytes, decompressed; for a deflated record at most 1032 times compressed_size
  std::uint64_t compressed_size = 0;  // bytes in the file; equal to size for a stored record
  std::uint64_t data_offset = 0;      // where in the file they begin
  std::uint64_t header_offset = 0;    // where its local header begins
  std::uint32_t crc = 0;              // of the decompressed bytes; 0 may mean "not computed", see ZipReader::verify
  ZipMethod method = ZipMethod::stored;
  bool is_checked = false;  // the content was held against the CRC when the file was opened: ScanSource::check_contents
};

// What read_zip_directory (zip_directory.h) gives.
struct ZipDirectory {
  std::vector<unsigned char> bytes;  // as in the file: the names stand there
  std::vector<ZipRecord> records;
};

class ZipReader {
 public:
  // Reads and checks the whole structure: every header, and contents if ScanSource says so. Reads the end of the file,
  // the directory in one piece, and the head of each record, with all that stands between those of small ones.
  explicit ZipReader(ByteSource source);
  ZipReader(const ZipReader&) = delete;
  ZipReader& operator=(const ZipReader&) = delete;

  const ByteSource& source() const { return source_; }

  // In the directory's order.
  const std::vector<ZipRecord>& records() const { return directory_.records; }

  // Null if there is none of this name. The second one takes `A` for `a`, as PyTorch does.
  const ZipRecord* find(std::string_view name) const;
  const ZipRecord* find_ignoring_case(std::string_view name) const;

  // The whole content, decompressed and checked against its CRC. CorruptError if it does not fit.
  // Requires, as for all below: `record` is one of records().
  std::vector<unsigned char> read(const ZipRecord& record) const;

  // The same into `destination`, which has room for record.size bytes. On error it holds anything.
  void read_into(const ZipRecord& record, void* destination) const;

  // The content piece by piece, in order and checked, with a few MB of memory: pieces of 1 MiB, and what is left. The
  // CRC is known and checked after the last one only. Returns false where there was no CRC (see verify).
  using Piece = std::function<void(const unsigned char* data, std::size_t n_bytes)>;
  bool read_pieces(const ZipRecord& record, const Piece& use) const;

  // Checks the content as read() does, with a few MB of memory whatever its size. Returns false where there was no
  // CRC to check against: PyTorch writes 0 when told not to compute it (`compute_crc32`), so 0 never contradicts.
  bool verify(const ZipRecord& record) const;

  // CorruptError unless `found`, the CRC of the content as the caller read it, is the record's, or that has none.
  void check_crc(const ZipRecord& record, std::uint32_t found) const;

  // All records. Returns false where any had no CRC.
  bool verify_all() const;

 private:
  void build_index();

  ByteSource source_;
  ZipDirectory directory_;
  HashTable<std::uint32_t> by_folded_name_;  // indices of records
};

}  // namespace ckptio::detail
