// SPDX-License-Identifier: Apache-2.0
// Numbers as Python prints them, so that logs and messages read as Lightning's.
#pragma once

#include <string>

namespace ckptio::detail {

// Python's repr of a float: the fewest digits that read as the same double; "1.0", "1e-05", "1e+16", "nan", "-inf".
std::string number_text(double value);

// Python's f"{value:.<n_digits>f}".
std::string fixed_text(double value, int n_digits);

}  // namespace ckptio::detail
