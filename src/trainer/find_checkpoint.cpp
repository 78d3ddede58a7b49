// SPDX-License-Identifier: Apache-2.0
#include "trainer/find_checkpoint.h"

namespace ckptio::detail {

std::optional<std::string> find_checkpoint(Trainer&, const std::string& ckpt_path, const char* function) {
  throw ValueError("`." + std::string(function) + "(ckpt_path=\"" + ckpt_path +
                   "\")` is set but `ModelCheckpoint` is not configured.");
}

bool has_on_exception_checkpoint(const Trainer&) { return false; }

}  // namespace ckptio::detail
