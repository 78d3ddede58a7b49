// SPDX-License-Identifier: Apache-2.0
#include "trainer/fit_progress.h"

#include <array>
#include <string_view>

namespace ckptio::detail {
namespace {

constexpr std::array<std::string_view, 4> kStageNames{"not_begun", "training", "validated", "ended"};

EpochStage stage_named(const Value& name) {
  for (std::size_t i = 0; i < kStageNames.size(); ++i) {
    if (name.as<std::string>() == kStageNames[i]) return static_cast<EpochStage>(i);
  }
  throw ValueError(name.path() + ": '" + name.as<std::string>() + "' is no stage of an epoch");
}

template <class T>
Value value_or_null(const std::optional<T>& value) {
  return value ? Value(*value) : Value();
}

}  // namespace

Dict FitProgress::state_dict() const {
  return Dict{{"epoch", epoch},
              {"global_step", global_step},
              {"stage", kStageNames[static_cast<std::size_t>(stage)]},
              {"batches_done", batches_done},
              {"n_train_batches", value_or_null(n_train_batches)},
              {"epoch_rng_state", value_or_null(epoch_rng)}};
}

void FitProgress::load_state_dict(const Dict& state) {
  FitProgress loaded;
  loaded.epoch = state.at("epoch").as<std::int64_t>();
  loaded.global_step = state.at("global_step").as<std::int64_t>();
  loaded.stage = stage_named(state.at("stage"));
  loaded.batches_done = state.at("batches_done").as<std::int64_t>();
  loaded.n_train_batches = state.at("n_train_batches").as<std::optional<std::int64_t>>();
  if (const Value& rng = state.at("epoch_rng_state"); !rng.is_null()) loaded.epoch_rng = rng.as<Dict>();
  *this = std::move(loaded);
}

}  // namespace ckptio::detail
