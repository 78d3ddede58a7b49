// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace ckptio::detail {

// A YAML mapping from each path to its score, sorted by path, as PyYAML reads it.
std::string scores_as_yaml(std::vector<std::pair<std::string, double>> scores);

}  // namespace ckptio::detail
