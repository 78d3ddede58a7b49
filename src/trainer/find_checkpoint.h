// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "ckptio/trainer/trainer.h"

namespace ckptio::detail {

std::optional<std::string> find_checkpoint(Trainer& trainer, const std::string& ckpt_path, const char* function);
bool has_on_exception_checkpoint(const Trainer& trainer);

}  // namespace ckptio::detail
