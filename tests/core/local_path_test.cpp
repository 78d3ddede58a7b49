// SPDX-License-Identifier: Apache-2.0
#include "storage/local_path.h"

#include <string>

#include "ckptio/error.h"
#include "support/catch.h"

using namespace ckptio;
using ckptio::detail::parse_local_path;
using ckptio::test::ContainsSubstring;

TEST_CASE("LocalPath.PlainPathsAreSplitAtTheLastSlash", "[local]") {
  CHECK(parse_local_path("a.pt").folder == ".");
  CHECK(parse_local_path("a.pt").name == "a.pt");
  CHECK(parse_local_path("/a.pt").folder == "/");
  CHECK(parse_local_path("x/y/a.pt").folder == "x/y");
  CHECK(parse_local_path("x/y//").name == "y");
  CHECK(parse_local_path("x/y//").trailing_slash);
  CHECK(parse_local_path("/").name.empty());
}

TEST_CASE("LocalPath.FileUrisAreDecoded", "[local]") {
  CHECK(parse_local_path("file:///x/a.pt").text == "/x/a.pt");
  CHECK(parse_local_path("FILE://localhost/x/a%20b%3D3.pt").text == "/x/a b=3.pt");
  CHECK(parse_local_path("/x/a%20b.pt").text == "/x/a%20b.pt");
}

TEST_CASE("LocalPath.ThingsThatOnlyLookLikeUrisArePaths", "[local]") {
  for (const auto* path : {"./s3://b", "a:b", "epoch=1/s3://b", "://x", "1a://x", "/s3://x"}) {
    CHECK(parse_local_path(path).text == path);
  }
}

TEST_CASE("LocalPath.OtherSchemesAndHostsAreUnsupported", "[local]") {
  CHECK_THROWS_AS(parse_local_path("s3://bucket/key"), UnsupportedError);
  CHECK_THROWS_WITH(parse_local_path("s3://bucket/key"),
                    ContainsSubstring("s3://bucket/key") && ContainsSubstring("file://"));
  CHECK_THROWS_AS(parse_local_path("gs://b/k"), UnsupportedError);
  CHECK_THROWS_AS(parse_local_path("file://otherhost/x"), UnsupportedError);
  CHECK_THROWS_AS(parse_local_path("file://relative.pt"), UnsupportedError);
}

TEST_CASE("LocalPath.BrokenPathsAreValueErrors", "[local]") {
  CHECK_THROWS_AS(parse_local_path(std::string("a\0b", 3)), ValueError);
  CHECK_THROWS_AS(parse_local_path("file:///a%00b"), ValueError);
  CHECK_THROWS_AS(parse_local_path("file:///a%2"), ValueError);
  CHECK_THROWS_AS(parse_local_path("file:///a%zz"), ValueError);
}
