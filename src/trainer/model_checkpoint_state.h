// SPDX-License-Identifier: Apache-2.0
// A ModelCheckpoint's state as it stands in a checkpoint, under Lightning's names: paths to Dict and back.
#pragma once

#include <optional>
#include <string>

#include "ckptio/value.h"
#include "trainer/checkpoints/checkpoint_book.h"

namespace ckptio::detail {

struct ModelCheckpointState {
  std::string monitor{};  // empty: none
  std::string dirpath{};
  BookPage page{};
  bool waits = false;
};

Dict to_dict(const ModelCheckpointState& state);

// The same for the file `path`: `dirpath` relative to the file's folder, other paths relative to dirpath, as far as all
// is in one place.
Dict to_dict_in_file(ModelCheckpointState state, const std::string& path);

// What to_dict, to_dict_in_file and Lightning write, with its paths made absolute again. `path`: the file that the
// state was in, empty if unknown; `own_dirpath`: of the ModelCheckpoint that loads it, taken for the state's where the
// latter can't be known, and where the folder has been moved there.
ModelCheckpointState from_dict(const Dict& dict, const std::string& path, const std::string& own_dirpath);

// An int, float, or tensor with one element; nullopt for null.
std::optional<double> optional_number(const Value& value);

}  // namespace ckptio::detail
