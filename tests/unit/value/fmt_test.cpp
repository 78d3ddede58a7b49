// SPDX-License-Identifier: Apache-2.0
#define FMT_HEADER_ONLY
#include "ckptio/fmt.h"

#include "support/catch.h"

using namespace ckptio;

TEST_CASE("fmt formats what operator<< prints", "[value]") {
  CHECK(fmt::format("{}", Value(1.5)) == "1.5");
  CHECK(fmt::format("{}", Dict{{"a", List{1, Tuple{}}}}) == "{'a': [1, ()]}");
  CHECK(fmt::format("{:>5}|{:.3}", List{1}, Tuple{1, 2}) == "  [1]|(1,");
}
