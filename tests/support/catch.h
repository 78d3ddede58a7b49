// SPDX-License-Identifier: Apache-2.0
// Catch2 for our tests, version 2 (Debian 12) or 3: include this and neither's own headers.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
namespace ckptio::test {
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::EndsWith;
using Catch::Matchers::Equals;
using Catch::Matchers::StartsWith;
}  // namespace ckptio::test
#else
#include <catch2/catch.hpp>
namespace ckptio::test {
// Version 3's name for it.
inline auto ContainsSubstring(const std::string& part,
                              Catch::CaseSensitive::Choice sensitive = Catch::CaseSensitive::Yes) {
  return Catch::Matchers::Contains(part, sensitive);
}
using Catch::Matchers::EndsWith;
using Catch::Matchers::Equals;
using Catch::Matchers::StartsWith;
}  // namespace ckptio::test
#endif
