// SPDX-License-Identifier: Apache-2.0
// Reads the file that Python's torch.save writes: a zip with P/data.pkl and P/data/N, and what LibTorch's archives
// share with it. Stricter than torch.load: every record under one prefix, records exactly as long as their storages.
//
// Follows torch/serialization.py (_load) and caffe2/serialize/inline_container.cc of torch 2.13.
// Threads: free functions without state. Errors: CorruptError, UnsupportedError.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "codec/archive.h"
#include "codec/pickle_reader.h"
#include "codec/zip_reader.h"

namespace ckptio::detail {

// The folder that all records are in, with its '/': "archive/". CorruptError if one is elsewhere.
std::string zip_prefix(const ZipReader& zip);

// The record of this name, without regard to case; CorruptError if there is none.
const ZipRecord& require_record(const ZipReader& zip, const std::string& name);

// Checks the record `version`, 1 to 10; UnsupportedError for a newer one.
void check_version(const ZipReader& zip, const std::string& prefix);

// Reads record prefix + name as a pickle, checked against its CRC, into `graph`, whose root it becomes.
void read_pickle_record(const ZipReader& zip, const ZipRecord& record, PickleDialect dialect, ObjectGraph& graph);

// Finds the records folder + key of the graph's storages from `first` on and adds them to `contents`.
void find_storages(const ZipReader& zip, const std::string& folder, bool is_big_endian, std::size_t first,
                   ArchiveContents& contents);

// Whether the records hold numbers in big-endian order, as record `byteorder` says.
bool is_big_endian(const ZipReader& zip, const std::string& prefix);

ArchiveContents read_python_file(const ZipReader& zip);

}  // namespace ckptio::detail
