// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ckptio {

// Which of Python's dictionaries a Dict is.
enum class DictType : std::uint8_t {
  dict,
  ordered_dict,  // collections.OrderedDict: what Module.state_dict() gives
  counter,       // collections.Counter: in MultiStepLR's state
};

}  // namespace ckptio
