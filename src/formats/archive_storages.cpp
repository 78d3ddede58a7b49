// SPDX-License-Identifier: Apache-2.0
#include "formats/archive_storages.h"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cerrno>
#include <numeric>

namespace ckptio::detail {

namespace {

// What LibTorch's operators may expect of a tensor's address: the size of its items. Of bytes that may be anything,
// that of the largest, a complex<double>.
std::uint64_t alignment_of(const StorageInfo& info) { return info.untyped ? 16 : item_size(info.dtype); }

[[noreturn]] void throw_no_memory(const Archive& archive, const StorageRecord& record) {
  throw IoError("cannot read '" + archive.source().name + "': not enough memory for the " +
                    std::to_string(record.n_bytes) + " bytes of " + record.name,
                ENOMEM);
}

c10::Storage make_storage(const Archive& archive, const StorageRecord& record) {
  const auto n_bytes = static_cast<std::size_t>(record.n_bytes);
  if (n_bytes != record.n_bytes) throw_no_memory(archive, record);
  try {
    c10::Allocator* allocator = c10::GetCPUAllocator();
    return {c10::Storage::use_byte_size_t(), n_bytes, allocator->allocate(n_bytes), allocator, /*resizable=*/true};
  } catch (const std::exception&) {  // c10::Error or bad_alloc
    throw_no_memory(archive, record);
  }
}

// A storage of the device that holds no bytes.
c10::Storage make_meta_storage(const StorageRecord& record) {
  return at::empty({static_cast<std::int64_t>(record.n_bytes)}, at::TensorOptions(at::kByte).device(c10::kMeta))
      .storage();
}

}  // namespace

std::optional<c10::Storage> map_storage(const Archive& archive, std::size_t index, const std::shared_ptr<void>& file) {
  const StorageRecord& record = archive.storages()[index];
  const bool can_map = file && record.is_stored && !record.swap_bytes && record.n_bytes > 0 &&
                       record.data_offset % alignment_of(archive.graph().storages[index]) == 0;
  if (!can_map) return std::nullopt;
  auto* owner = new std::shared_ptr<void>(file);
  at::DataPtr data(
      static_cast<char*>(file.get()) + record.data_offset, owner,
      [](void* pointer) { delete static_cast<std::shared_ptr<void>*>(pointer); }, c10::kCPU);
  return c10::Storage(c10::Storage::use_byte_size_t(), static_cast<std::size_t>(record.n_bytes), std::move(data));
}

c10::Storage read_storage(const Archive& archive, std::size_t index) {
  const StorageRecord& record = archive.storages()[index];
  c10::Storage storage = make_storage(archive, record);
  if (record.n_bytes > 0) archive.read_storage(index, storage.mutable_data());
  return storage;
}

std::vector<c10::Storage> read_storages(const Archive& archive, const RandomAccessFile& file,
                                        const LoadOptions& options) {
  const std::vector<StorageRecord>& records = archive.storages();
  const std::shared_ptr<void> mapped = options.mmap ? file.map() : nullptr;
  std::vector<std::size_t> order(records.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // In the order of the file, which disks and read-ahead like.
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return records[a].data_offset < records[b].data_offset; });
  std::vector<c10::Storage> storages(records.size());
  for (const std::size_t index : order) {
    const StorageRecord& record = records[index];
    const std::string& location = archive.graph().storages[index].location;
    const auto device = options.map_location.device_for(location);
    if (device && device->is_meta()) {
      storages[index] = make_meta_storage(record);
      continue;
    }
    const std::optional<c10::Storage> storage = map_storage(archive, index, mapped);
    storages[index] = options.map_location.map(storage ? *storage : read_storage(archive, index), location);
  }
  return storages;
}

}  // namespace ckptio::detail
