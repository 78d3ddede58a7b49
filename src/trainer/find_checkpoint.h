// SPDX-License-Identifier: Apache-2.0
// What "best" and "last" mean as a ckpt_path, by the callbacks of a Trainer.
#pragma once

#include <optional>
#include <string>

namespace ckptio {
class Trainer;
}

namespace ckptio::detail {

// The path that `ckpt_path`, "best" or "last", stands for in a call of Trainer's `function` ("fit", ...). nullopt, with
// a message by Trainer::print, if there is no last checkpoint. ValueError if there is no best one.
//   best  the first ModelCheckpoint's best_model_path
//   last  of the files of that name in the folders of ModelCheckpoints, and of OnExceptionCheckpoints' files, the one
//         changed last; where none can be seen because they are not on this machine, the newest that a callback knows
std::optional<std::string> find_checkpoint(Trainer& trainer, const std::string& ckpt_path, const char* function);

bool has_on_exception_checkpoint(const Trainer& trainer);

}  // namespace ckptio::detail
