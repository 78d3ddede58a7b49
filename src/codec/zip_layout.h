// SPDX-License-Identifier: Apache-2.0
// ZipLayout: where every byte of a zip archive will stand, before the first is written.
//
// The bytes are exactly those that PyTorch's writer (miniz within caffe2/serialize/inline_container.cc, 2.13) makes:
// stored records, data on a multiple of 64 bytes by an extra field "FB", data descriptors, Zip64 where needed, the
// Zip64 end record always. Only the CRCs are missing, and they stand behind the data; so records can be written in any
// order, by any number of threads, each at its offset.
// Threads may read one at the same time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codec/text_block.h"

namespace ckptio::detail {

class ZipLayout {
 public:
  struct Record {
    std::string_view name;            // lives as long as the layout
    std::uint64_t size = 0;           // bytes of data
    std::uint64_t header_offset = 0;  // begin of the local header
    std::uint64_t data_offset = 0;    // a multiple of the alignment
    std::uint64_t end_offset = 0;     // after the data descriptor: where the next record's header begins
  };

  // `alignment`: of the data, a power of two from 1 to 32768 (its padding's length has 16 bits); else ValueError.
  explicit ZipLayout(std::uint64_t alignment = 64);

  std::uint64_t alignment() const { return alignment_; }

  // Adds a record behind the others. ValueError for a name of more than 65535 bytes.
  // Requires: the name is new (also without regard to case, since readers look it up so), and valid UTF-8.
  void add(std::string_view name, std::uint64_t n_bytes);
  // Room for so many records.
  void reserve(std::size_t n_records) { records_.reserve(n_records); }

  const std::vector<Record>& records() const { return records_; }
  std::uint64_t directory_offset() const;  // where directory() goes: behind the last record
  std::uint64_t file_size() const;

  // The bytes from header_offset to data_offset; and the same where there is room for them.
  std::string header(std::size_t index) const;
  void put_header(std::size_t index, void* to) const;
  // The bytes from the data's end to end_offset; empty for an empty record.
  std::string descriptor(std::size_t index, std::uint32_t crc) const;
  void put_descriptor(std::size_t index, std::uint32_t crc, void* to) const;
  // The central directory and the end records. Requires: one CRC per record.
  std::string directory(const std::vector<std::uint32_t>& crcs) const;
  void put_directory(const std::vector<std::uint32_t>& crcs, void* to) const;

 private:
  std::uint64_t alignment_;
  std::vector<Record> records_;
  TextBlock names_;
  std::uint64_t n_entry_bytes_ = 0;  // of the central directory
};

}  // namespace ckptio::detail
