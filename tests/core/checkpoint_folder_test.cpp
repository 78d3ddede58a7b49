// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/checkpoint_folder.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "support/catch.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;
using namespace detail;

TEST_CASE("A folder is resolved as far as it is one of this machine", "[checkpoint_folder]") {
  const std::string home = fs::path(std::getenv("HOME")).string();
  CHECK(resolve_folder("~/x") == (fs::weakly_canonical(home) / "x").string());
  CHECK(resolve_folder("./~/x") == (fs::current_path() / "~/x").string());
  CHECK(resolve_folder("a/../b/") == (fs::current_path() / "b").string());
  CHECK(resolve_folder("") == fs::current_path().string());
  CHECK(resolve_folder("file:///nowhere/x") == "/nowhere/x");
  CHECK(resolve_folder("s3://bucket/run/") == "s3://bucket/run/");
}

TEST_CASE("Names are relative to a folder, and lead back to the path", "[checkpoint_folder]") {
  CHECK(name_in("/run/ck", "/run/ck/a.ckpt") == "a.ckpt");
  CHECK(name_in("/run/ck", "/run/ck/val/a.ckpt") == "val/a.ckpt");
  CHECK(name_in("/run/ck", "/run/old/a.ckpt") == "../old/a.ckpt");
  CHECK(name_in("/run", "/run") == ".");
  CHECK(name_in("s3://b/run", "s3://b/run/a.ckpt") == "a.ckpt");
  CHECK(name_in("s3://b/run", "s3://b/other/a.ckpt") == "s3://b/other/a.ckpt");
  CHECK(path_in("/run/ck", "a.ckpt") == "/run/ck/a.ckpt");
  CHECK(path_in("/run/ck", ".") == "/run/ck");
  CHECK(path_in("/run/ck", "/x.ckpt") == "/x.ckpt");
  CHECK(path_in("s3://b/run", "a.ckpt") == "s3://b/run/a.ckpt");
  CHECK(path_in("s3://b/run", "s3://c/x") == "s3://c/x");
  CHECK(folder_of("s3://b/run/a.ckpt") == "s3://b/run");
  CHECK(folder_of("/run/a.ckpt") == "/run");
}

TEST_CASE("Only what is below a folder lies in it", "[checkpoint_folder]") {
  CHECK(lies_in("/run/a.ckpt", "/run"));
  CHECK(lies_in("/run/sub/a.ckpt", "/run"));
  CHECK_FALSE(lies_in("/run/../a.ckpt", "/run"));
  CHECK_FALSE(lies_in("/running/a.ckpt", "/run"));
  CHECK_FALSE(lies_in("/run", "/run"));
  CHECK(lies_in("s3://b/run/a.ckpt", "s3://b/run"));
  CHECK_FALSE(lies_in("s3://b/run/../a.ckpt", "s3://b/run"));
  CHECK_FALSE(lies_in("s3://b/running/a.ckpt", "s3://b/run"));
  CHECK_FALSE(lies_in("/run/a.ckpt", "s3://b/run"));
}

TEST_CASE("A file is known again through links and other spellings", "[checkpoint_folder]") {
  const TempFolder folder;
  std::ofstream(folder / "a.ckpt") << "a";
  std::ofstream(folder / "b.ckpt") << "b";
  fs::create_symlink("a.ckpt", folder / "last.ckpt");
  CHECK(is_same_file(folder / "last.ckpt", folder / "a.ckpt"));
  CHECK(is_same_file(folder / "../" + fs::path(folder.path()).filename().string() + "/a.ckpt", folder / "a.ckpt"));
  CHECK_FALSE(is_same_file(folder / "a.ckpt", folder / "b.ckpt"));
  CHECK(is_same_file(folder / "not there", folder / "./not there"));
  CHECK(is_there(folder / "last.ckpt"));
  CHECK_FALSE(is_there(folder / "not there"));
  CHECK_FALSE(is_there("s3://b/a.ckpt"));
  CHECK(time_of(folder / "last.ckpt") == time_of(folder / "a.ckpt"));
  CHECK_FALSE(time_of(folder / "not there").has_value());
}

TEST_CASE("Temporary names are no names of a folder", "[checkpoint_folder]") {
  const TempFolder folder;
  CHECK_FALSE(is_folder_with_entries(folder.path()));
  std::ofstream(folder / ".last.ckpt.12.3.ckptio-tmp") << "";
  CHECK_FALSE(is_folder_with_entries(folder.path()));
  std::ofstream(folder / "b") << "";
  std::ofstream(folder / "a") << "";
  CHECK(names_in(folder.path()) == std::vector<std::string>{"a", "b"});
  CHECK(names_in(folder / "not there").empty());
}

}  // namespace
}  // namespace ckptio::test
