// SPDX-License-Identifier: Apache-2.0
#include "value/mapped_record.h"

#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "codec/checksum.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {

namespace {

struct Owner {
  MappedRecord record;
  std::once_flag checked;
};

// Its address is what storages of make_storage are known by.
void delete_owner(void* owner) { delete static_cast<Owner*>(owner); }

void check(const MappedRecord& record) {
  const auto* bytes = static_cast<const unsigned char*>(record.file->contents.get()) + record.offset;
  check_crc({record.file->name, 0, nullptr}, record.name, record.offset, record.n_bytes, record.crc,
            crc32(0, bytes, static_cast<std::size_t>(record.n_bytes)));
}

}  // namespace

c10::Storage make_storage(MappedRecord record) {
  const auto n_bytes = static_cast<std::size_t>(record.n_bytes);
  void* const data = static_cast<unsigned char*>(record.memory.get()) + record.offset;
  auto owner = std::make_unique<Owner>(std::move(record));
  at::DataPtr pointer(data, owner.release(), delete_owner, c10::kCPU);
  return {c10::Storage::use_byte_size_t(), n_bytes, std::move(pointer)};
}

void verify_storage(const c10::Storage& storage) {
  if (!storage || storage.data_ptr().get_deleter() != delete_owner) return;
  auto* owner = static_cast<Owner*>(storage.data_ptr().get_context());
  // One that throws leaves the flag: the next one looks again.
  std::call_once(owner->checked, check, std::cref(owner->record));
}

}  // namespace ckptio::detail
