// SPDX-License-Identifier: Apache-2.0
// The pickle of what is made of plain values and dense tensors, as most checkpoints are: written straight from the
// Values, with nothing allocated for each tensor. The bytes are those that ObjectBuilder and write_pickle make of the
// same, by way of objects; they are for everything else.
// Threads: any.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "ckptio/value.h"
#include "formats/saved_storage.h"

namespace ckptio::detail {

struct PlainPickle {
  std::string bytes;
  std::vector<SavedStorage> storages;  // by the keys under which the pickle names them; the tensors have them
  std::size_t n_values = 0;            // that it holds
};

// nullopt where anything is met that is neither, or that cannot be saved: the other way says why. CorruptError for a
// storage that was mapped from a damaged file.
std::optional<PlainPickle> write_plain_pickle(const Value& value);
std::optional<PlainPickle> write_plain_pickle(const Dict& dict);

}  // namespace ckptio::detail
