// SPDX-License-Identifier: Apache-2.0
#include "codec/archive.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "ckptio/error.h"
#include "codec/legacy_file.h"
#include "codec/libtorch_file.h"
#include "codec/python_file.h"
#include "codec/safetensors_file.h"

namespace ckptio::detail {
namespace {

// A multiple of every item's size; as much as ZipReader's pieces.
constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;

std::string first_bytes(const ByteSource& source, std::size_t n_bytes) {
  std::string bytes(std::min<std::uint64_t>(source.size, n_bytes), '\0');
  if (!bytes.empty()) source.read_at(0, bytes.data(), bytes.size());
  return bytes;
}

bool looks_like_zip(const ByteSource& source) {
  const std::string head = first_bytes(source, 4);
  return head == "PK\3\4" || head == "PK\5\6" || head == "PK\6\6";
}

// TorchScript's archives have their constants beside their data.
ArchiveFormat format_of_zip(const ZipReader& zip) {
  for (const ZipRecord& record : zip.records()) {
    constexpr std::string_view kConstants = "/constants.pkl";
    if (!record.name.ends_with(kConstants)) continue;
    if (record.name.find('/') == record.name.size() - kConstants.size()) return ArchiveFormat::libtorch;
  }
  return ArchiveFormat::python;
}

[[noreturn]] void throw_unknown(const ByteSource& source) {
  constexpr std::size_t kTarMagicAt = 257;
  std::string found = "it is empty";
  const std::string head = first_bytes(source, kTarMagicAt + 5);
  if (!head.empty()) {
    found = "it begins with the bytes";
    for (std::size_t i = 0; i < std::min<std::size_t>(head.size(), 8); ++i) {
      const auto byte = static_cast<unsigned char>(head[i]);
      found += std::string(" ") + "0123456789abcdef"[byte >> 4] + "0123456789abcdef"[byte & 15];
    }
  }
  if (head.size() >= kTarMagicAt + 5 && head.substr(kTarMagicAt) == "ustar") {
    found = "it is a tar file, as PyTorch before 0.2 wrote it, which is not read";
  }
  throw UnsupportedError("cannot read '" + source.name + "': not a checkpoint of any format that ckptio reads (" +
                         std::to_string(source.size) + " bytes): " + found +
                         ", expected a zip archive, a pickle of torch.save or a safetensors header");
}

// In place. The rest behind the last whole number stays.
void swap_in_place(unsigned char* bytes, std::uint64_t n_bytes, std::size_t swap_size) {
  for (std::uint64_t at = 0; at + swap_size <= n_bytes; at += swap_size) {
    std::reverse(bytes + at, bytes + at + swap_size);
  }
}

}  // namespace

const char* describe(ArchiveFormat format) {
  switch (format) {
    case ArchiveFormat::python:
      return "Python's torch.save (zip)";
    case ArchiveFormat::python_legacy:
      return "Python's torch.save (before 1.6)";
    case ArchiveFormat::libtorch:
      return "LibTorch's torch::save";
    case ArchiveFormat::safetensors:
      return "safetensors";
  }
  return "";
}

std::optional<ArchiveFormat> sniff_format(const ByteSource& source) {
  if (looks_like_zip(source)) {
    try {
      return format_of_zip(ZipReader(source));
    } catch (const CorruptError&) {
      return ArchiveFormat::python;
    }
  }
  if (looks_like_legacy_file(source)) return ArchiveFormat::python_legacy;
  if (looks_like_safetensors(source)) return ArchiveFormat::safetensors;
  return std::nullopt;
}

Archive Archive::open(ByteSource source) {
  if (looks_like_zip(source)) {
    auto zip = std::make_unique<ZipReader>(source);
    const ArchiveFormat format = format_of_zip(*zip);
    return open_zip(std::move(source), format, std::move(zip));
  }
  const std::optional<ArchiveFormat> format = sniff_format(source);
  if (!format) throw_unknown(source);
  return open(std::move(source), *format);
}

Archive Archive::open_zip(ByteSource source, ArchiveFormat format, std::unique_ptr<ZipReader> zip) {
  Archive archive;
  archive.source_ = std::move(source);
  archive.format_ = format;
  archive.zip_ = std::move(zip);
  archive.contents_ =
      format == ArchiveFormat::python ? read_python_file(*archive.zip_) : read_libtorch_file(*archive.zip_);
  return archive;
}

Archive Archive::open(ByteSource source, ArchiveFormat format) {
  if (format == ArchiveFormat::python || format == ArchiveFormat::libtorch) {
    auto zip = std::make_unique<ZipReader>(source);
    return open_zip(std::move(source), format, std::move(zip));
  }
  Archive archive;
  archive.source_ = std::move(source);
  archive.format_ = format;
  if (format == ArchiveFormat::python_legacy) {
    archive.contents_ = read_legacy_file(archive.source_);
  } else {
    SafetensorsFile file = read_safetensors(archive.source_);
    archive.contents_.graph = std::move(file.graph);
    archive.contents_.storages = std::move(file.storages);
    if (file.metadata) archive.contents_.metadata = std::move(*file.metadata);
  }
  return archive;
}

std::string Archive::storage_name(std::size_t index) const {
  const StorageRecord& storage = storages().at(index);
  if (storage.zip_record < 0) return storage.name;
  return std::string(zip_->records()[static_cast<std::size_t>(storage.zip_record)].name);
}

void Archive::read_storage(std::size_t index, void* destination) const {
  const StorageRecord& storage = storages().at(index);
  if (storage.zip_record >= 0) {
    zip_->read_into(zip_->records()[static_cast<std::size_t>(storage.zip_record)], destination);
  } else if (storage.n_bytes > 0) {
    source_.read_at(storage.data_offset, destination, storage.n_bytes);
  }
  if (storage.swap_bytes) swap_in_place(static_cast<unsigned char*>(destination), storage.n_bytes, storage.swap_size);
}

void Archive::read_storage_pieces(std::size_t index, const Piece& use) const {
  const StorageRecord& storage = storages().at(index);
  std::vector<unsigned char> piece;
  const auto use_swapped = [&](const unsigned char* data, std::size_t n_bytes) {
    if (!storage.swap_bytes) return use(data, n_bytes);
    piece.assign(data, data + n_bytes);
    swap_in_place(piece.data(), n_bytes, storage.swap_size);
    use(piece.data(), n_bytes);
  };
  if (storage.zip_record >= 0) {
    zip_->read_pieces(zip_->records()[static_cast<std::size_t>(storage.zip_record)], use_swapped);
    return;
  }
  std::vector<unsigned char> read;
  for (std::uint64_t done = 0; done < storage.n_bytes; done += read.size()) {
    read.resize(std::min(kPieceBytes, storage.n_bytes - done));
    source_.read_at(storage.data_offset + done, read.data(), read.size());
    use_swapped(read.data(), read.size());
  }
}

void Archive::check_crc(std::size_t index, std::uint32_t found) const {
  const StorageRecord& storage = storages().at(index);
  if (storage.zip_record >= 0) zip_->check_crc(zip_->records()[static_cast<std::size_t>(storage.zip_record)], found);
}

bool Archive::verify_storage(std::size_t index) const {
  const StorageRecord& storage = storages().at(index);
  if (storage.zip_record < 0) return false;
  return zip_->verify(zip_->records()[static_cast<std::size_t>(storage.zip_record)]);
}

}  // namespace ckptio::detail
