// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters as YAML 1.1 (yaml.org/type, which PyYAML and so Lightning's hparams.yaml follow), to be read by
// people.
#pragma once

#include <string>

#include "ckptio/value.h"

namespace ckptio::detail {

// A block mapping, entry by entry; lists and tuples are sequences, what YAML has no word for is its text.
std::string to_yaml(const Dict& dict);

// Writes it to `path`, whole or not at all. IoError where it can't.
void write_yaml(const Dict& dict, const std::string& path);

}  // namespace ckptio::detail
