// SPDX-License-Identifier: Apache-2.0
#include "ckptio/verify.h"

#include "formats/opaque_context.h"
#include "value/mapped_record.h"
#include "value/opaque_access.h"

namespace ckptio {

void verify(const at::Tensor& tensor) {
  // The parts of those that have none (sparse) were checked when they were made of them.
  if (tensor.defined() && tensor.has_storage()) detail::verify_storage(tensor.storage());
}

void verify(const Value& value) {
  if (const auto* tensor = value.get_if<at::Tensor>()) {
    verify(*tensor);
  } else if (const auto* dict = value.get_if<Dict>()) {
    verify(*dict);
  } else if (const auto* list = value.get_if<List>()) {
    for (const Value& item : *list) verify(item);
  } else if (const auto* tuple = value.get_if<Tuple>()) {
    if (tuple->is_size()) return;
    for (const Value& item : *tuple) verify(item);
  } else if (const auto* storage = value.get_if<TypedStorage>()) {
    detail::verify_storage(storage->storage);
  } else if (const auto* opaque = value.get_if<Opaque>()) {
    for (const c10::Storage& each : detail::OpaqueAccess::context(*opaque)->storages) detail::verify_storage(each);
  }
}

void verify(const Dict& dict) {
  for (const auto& [key, value] : dict) verify(value);
  if (!dict.attributes().empty()) verify(dict.attributes());
}

}  // namespace ckptio
