// SPDX-License-Identifier: Apache-2.0
// Names of checkpoints by template: "{epoch:02d}-{val_loss:.2f}" becomes "epoch=03-val_loss=0.25". The rules are
// Lightning's: a metric that is not there is 0; metric names may hold `/`, which makes folders, and `.`; `{{` and `}}`
// stand for braces.
#pragma once

#include <map>
#include <string>

#include "trainer/checkpoints/python_format.h"

namespace ckptio::detail {

using NamedNumbers = std::map<std::string, Number>;

struct NameStyle {
  std::string join_char = "-";
  std::string equals_char = "=";
  bool auto_insert_metric_name = true;
};

// `name_template` empty: "{epoch}-{step}". ValueError for a brace without its partner, and as python_format.
std::string format_name(const std::string& name_template, const NamedNumbers& metrics, const NameStyle& style);

// True if `name` begins as something that format_name could make of the template, whatever the metrics.
bool begins_like(const std::string& name, const std::string& name_template, const NameStyle& style);

}  // namespace ckptio::detail
