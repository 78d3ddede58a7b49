// SPDX-License-Identifier: Apache-2.0
#include "trainer/find_checkpoint.h"

#include <vector>

#include "ckptio/trainer/model_checkpoint.h"
#include "ckptio/trainer/on_exception_checkpoint.h"
#include "ckptio/trainer/trainer.h"
#include "trainer/checkpoints/checkpoint_folder.h"

namespace ckptio::detail {
namespace {

template <class T>
std::vector<const T*> callbacks_of_type(const Trainer& trainer) {
  std::vector<const T*> found;
  for (const auto& callback : trainer.callbacks()) {
    if (const auto* one = dynamic_cast<const T*>(callback.get())) found.push_back(one);
  }
  return found;
}

std::string find_best(const Trainer& trainer, const std::string& function) {
  const std::string call = "`." + function + "(ckpt_path=\"best\")`";
  const auto checkpoints = callbacks_of_type<ModelCheckpoint>(trainer);
  if (checkpoints.empty()) throw ValueError(call + " is set but `ModelCheckpoint` is not configured.");
  if (checkpoints.size() > 1) {
    trainer.print(call +
                  " is called with Trainer configured with multiple `ModelCheckpoint` callbacks. It will use the best "
                  "checkpoint path from first checkpoint callback.");
  }
  const std::string& path = checkpoints.front()->best_model_path();
  if (!path.empty()) return path;
  if (trainer.options().fast_dev_run != 0) {
    throw ValueError("You cannot execute " + call +
                     " with `fast_dev_run=True`. Please pass an exact checkpoint path to `." + function +
                     "(ckpt_path=...)`");
  }
  throw ValueError(call + " is set but `ModelCheckpoint` is not configured to save the best model.");
}

// Those that can be seen on this machine.
std::vector<std::string> last_candidates(const Trainer& trainer) {
  std::vector<std::string> paths;
  for (const auto* callback : callbacks_of_type<OnExceptionCheckpoint>(trainer)) paths.push_back(callback->ckpt_path());
  for (const auto* callback : callbacks_of_type<ModelCheckpoint>(trainer)) {
    const auto found = callback->find_last_checkpoints(trainer);
    paths.insert(paths.end(), found.begin(), found.end());
  }
  std::erase_if(paths, [](const std::string& path) { return !is_there(path) || !time_of(path); });
  return paths;
}

// Of plugins that keep checkpoints elsewhere; the callbacks know of what they saved themselves.
std::optional<std::string> last_known(const Trainer& trainer) {
  for (const auto* callback : callbacks_of_type<ModelCheckpoint>(trainer)) {
    const std::string& path = callback->last_model_path();
    if (!path.empty() && !is_there(callback->dirpath())) return path;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> find_checkpoint(Trainer& trainer, const std::string& ckpt_path, const char* function) {
  if (ckpt_path == "best") return find_best(trainer, function);
  std::optional<std::string> newest;
  for (const std::string& path : last_candidates(trainer)) {
    if (!newest || *time_of(path) > *time_of(*newest)) newest = path;
  }
  if (!newest) newest = last_known(trainer);
  if (!newest) {
    trainer.print("`." + std::string(function) +
                  "(ckpt_path=\"last\")` is set, but there is no last checkpoint available. No checkpoint will be "
                  "loaded. HINT: Set `ModelCheckpoint(..., save_last=True)`.");
  }
  return newest;
}

bool has_on_exception_checkpoint(const Trainer& trainer) {
  return !callbacks_of_type<OnExceptionCheckpoint>(trainer).empty();
}

}  // namespace ckptio::detail
