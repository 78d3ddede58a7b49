// SPDX-License-Identifier: Apache-2.0
// main() of a test executable, for both versions of Catch2.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#define CATCH_CONFIG_RUNNER
#if defined(__GNUC__) && !defined(__clang__)
// Under a sanitizer GCC 12 takes std::regex, which Catch2's runner uses, for uninitialized.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <catch2/catch.hpp>
#endif

int main(int argc, char* argv[]) { return Catch::Session().run(argc, argv); }
