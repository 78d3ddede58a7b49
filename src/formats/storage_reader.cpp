// SPDX-License-Identifier: Apache-2.0
#include "formats/storage_reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "formats/new_storage.h"
#include "formats/storage_region.h"

namespace ckptio::detail {

namespace {

// What LibTorch's operators may expect of a tensor's address: the size of its items. Of bytes that may be anything,
// that of the largest, a complex<double>.
std::uint64_t alignment_of(const StorageInfo& info) { return info.untyped ? 16 : item_size(info.dtype); }

[[noreturn]] void throw_no_memory(const Archive& archive, std::size_t index) {
  throw IoError("cannot read '" + archive.source().name + "': not enough memory for the " +
                    std::to_string(archive.storages()[index].n_bytes) + " bytes of " + archive.storage_name(index),
                ENOMEM);
}

c10::Storage make_storage(const Archive& archive, std::size_t index, StorageMaker& maker) {
  const std::uint64_t n_wanted = archive.storages()[index].n_bytes;
  const auto n_bytes = static_cast<std::size_t>(n_wanted);
  if (n_bytes != n_wanted) throw_no_memory(archive, index);
  try {
    return maker.make(n_bytes);
  } catch (const std::exception&) {  // c10::Error or bad_alloc
    throw_no_memory(archive, index);
  }
}

// `index`: of the first storage in it.
c10::intrusive_ptr<StorageRegion> make_region(const Archive& archive, std::size_t index, const FileRange& part) {
  try {
    return StorageRegion::make(part);
  } catch (const std::bad_alloc&) {
    throw_no_memory(archive, index);
  }
}

// A storage of the device that holds no bytes.
c10::Storage make_meta_storage(const StorageRecord& record) {
  return at::empty({static_cast<std::int64_t>(record.n_bytes)}, at::TensorOptions(at::kByte).device(c10::kMeta))
      .storage();
}

// True for bytes that stand in the file as they will in memory.
bool is_plain(const StorageRecord& record) { return record.is_stored && !record.swap_bytes; }

}  // namespace

c10::intrusive_ptr<Mapping> make_mapping(std::shared_ptr<void> mapped) {
  return mapped ? c10::make_intrusive<Mapping>(std::move(mapped)) : c10::intrusive_ptr<Mapping>();
}

bool StorageReader::is_plain(std::size_t index) const { return detail::is_plain(archive_.storages()[index]); }

std::optional<c10::Storage> StorageReader::map(std::size_t index, const StorageInfo& info,
                                               const c10::intrusive_ptr<Mapping>& mapping,
                                               const std::shared_ptr<const UncheckedFile>& unchecked) const {
  const StorageRecord& record = archive_.storages()[index];
  const bool can_map =
      mapping && detail::is_plain(record) && record.n_bytes > 0 && record.data_offset % alignment_of(info) == 0;
  if (!can_map) return std::nullopt;
  if (unchecked && record.crc) {
    return detail::make_storage({mapping->mapped, unchecked, std::string(archive_.storage_name(index)),
                                 record.data_offset, record.n_bytes, *record.crc});
  }
  char* const begin = static_cast<char*>(mapping->mapped.get());
  Mapping* const owner = c10::intrusive_ptr<Mapping>(mapping).release();
  at::DataPtr data(
      begin + record.data_offset, owner,
      [](void* pointer) { c10::intrusive_ptr<Mapping>::reclaim(static_cast<Mapping*>(pointer)); }, c10::kCPU);
  return c10::Storage(c10::Storage::use_byte_size_t(), static_cast<std::size_t>(record.n_bytes), std::move(data));
}

std::shared_ptr<const UncheckedFile> StorageReader::map_unchecked(const LoadOptions& options) const {
  if (!options.mmap || !verify_ || options.verify_mapped != VerifyMapped::on_use) return nullptr;
  const std::shared_ptr<void> contents = file_.map();
  if (!contents) return nullptr;
  return std::make_shared<const UncheckedFile>(UncheckedFile{archive_.source().name, contents});
}

c10::Storage StorageReader::read(std::size_t index) const {
  const StorageRecord& record = archive_.storages()[index];
  StorageMaker alone;
  c10::Storage storage = make_storage(archive_, index, alone);
  if (record.n_bytes == 0) return storage;
  if (is_plain(index)) {
    run({{index, 0, record.n_bytes, storage.mutable_data()}}, verify_);
  } else {
    archive_.read_storage(index, storage.mutable_data());
  }
  return storage;
}

std::vector<c10::Storage> StorageReader::read_all(const LoadOptions& options) const {
  const std::vector<StorageRecord>& records = archive_.storages();
  const auto mapping = make_mapping(options.mmap ? file_.map() : nullptr);
  const auto unchecked = map_unchecked(options);
  std::vector<c10::Storage> storages(records.size());
  std::vector<std::size_t> to_read, are_mapped;
  to_read.reserve(records.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    const std::string& location = archive_.graph().storages[i].location;
    const auto device = options.map_location.device_for(location);
    if (device && device->is_meta()) {
      storages[i] = make_meta_storage(records[i]);
    } else if (auto storage = map(i, archive_.graph().storages[i], mapping, unchecked)) {
      storages[i] = *std::move(storage);
      are_mapped.push_back(i);
    } else if (device && device->is_cpu() && is_plain(i)) {
      to_read.push_back(i);
    } else {  // one by one, so that the CPU holds one of them alone
      storages[i] = options.map_location.map(read(i), location);
    }
  }
  read_new(std::move(to_read), storages);
  if (verify_ && !unchecked) check(are_mapped);
  for (const std::size_t i : are_mapped) {
    storages[i] = options.map_location.map(storages[i], archive_.graph().storages[i].location);
  }
  return storages;
}

void StorageReader::read_new(std::vector<std::size_t> indices, std::vector<c10::Storage>& storages) const {
  const std::vector<StorageRecord>& records = archive_.storages();
  const auto is_before = [&](std::size_t a, std::size_t b) { return records[a].data_offset < records[b].data_offset; };
  if (!std::is_sorted(indices.begin(), indices.end(), is_before)) std::sort(indices.begin(), indices.end(), is_before);
  std::vector<FileRange> in_file;
  in_file.reserve(indices.size());
  for (const std::size_t i : indices) in_file.push_back({records[i].data_offset, records[i].n_bytes});
  std::vector<ReadWindow> windows;
  for (const RegionOfRanges& of_ranges : find_regions(in_file)) {
    const auto region = make_region(archive_, indices[of_ranges.first], of_ranges.part);
    windows.push_back(region->window());
    for (std::size_t i = of_ranges.first; i < of_ranges.last; ++i) {
      if (belongs_into_region(in_file[i])) storages[indices[i]] = region->make_storage(in_file[i]);
    }
  }
  StorageMaker maker;
  std::vector<StorageRange> ranges;
  ranges.reserve(indices.size());
  for (const std::size_t i : indices) {
    if (!storages[i]) storages[i] = make_storage(archive_, i, maker);
    ranges.push_back({i, 0, records[i].n_bytes, storages[i].mutable_data()});
  }
  run(ranges, verify_, std::move(windows));
}

void StorageReader::check(const std::vector<std::size_t>& indices) const {
  std::vector<StorageRange> ranges;
  for (const std::size_t i : indices) {
    if (crc_of(i)) ranges.push_back({i, 0, archive_.storages()[i].n_bytes, nullptr});
  }
  run(ranges, true);
}

void StorageReader::read_ranges(const std::vector<StorageRange>& ranges, bool check_whole) const {
  run(ranges, check_whole && verify_);
}

std::optional<std::uint32_t> StorageReader::crc_of(std::size_t index) const { return archive_.storages()[index].crc; }

void StorageReader::run(const std::vector<StorageRange>& ranges, bool check_whole,
                        std::vector<ReadWindow> windows) const {
  if (ranges.empty()) return;
  ReadPlan plan;
  plan.windows = std::move(windows);
  plan.check = check_whole ? ReadCheck::while_reading : ReadCheck::none;
  plan.ranges.reserve(ranges.size());
  for (const StorageRange& range : ranges) {
    const StorageRecord& record = archive_.storages()[range.storage];
    plan.ranges.push_back({record.data_offset + range.offset, range.n_bytes, range.destination,
                           range.n_bytes == record.n_bytes ? record.crc : std::nullopt});
  }
  plan.report_damage = [&](std::size_t i, std::uint32_t found) { archive_.check_crc(ranges[i].storage, found); };
  engine_.read(file_, plan);
}

}  // namespace ckptio::detail
