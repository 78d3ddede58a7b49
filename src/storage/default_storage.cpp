// SPDX-License-Identifier: Apache-2.0
#include "ckptio/storage/local_storage.h"

namespace ckptio {

std::shared_ptr<StorageBackend> default_storage() { return std::make_shared<LocalStorage>(); }

}  // namespace ckptio
