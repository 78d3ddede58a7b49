// SPDX-License-Identifier: Apache-2.0
// JSON as machines write it: no space within, no character beyond ASCII, short escapes, integers. The headers of
// safetensors files are of that kind, and a general reader takes ten times as long for them.
#pragma once

#include <cstddef>
#include <string_view>

#include "codec/json_text.h"

namespace ckptio::detail {

// Whether all of the text is that, and at most `max_depth` containers deep. Other text may be JSON all the same.
bool is_plain_json(std::string_view text, std::size_t max_depth);

// Tells what stands there. `n_read`: counts the bytes, as far as a reader that looks at what ends a number has come.
// Requires: it is_plain_json.
void tell_plain_json(std::string_view text, JsonHandler& handler, std::size_t& n_read);

}  // namespace ckptio::detail
