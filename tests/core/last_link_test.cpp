// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/last_link.h"

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "ckptio/error.h"
#include "core/system_call_hooks.h"
#include "support/catch.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;
using detail::point_link;

void write_text(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

std::string read_text(const std::string& path) {
  if (fs::is_directory(path)) return "folder";
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

TEST_CASE("`last` becomes a relative link", "[last_link]") {
  const TempFolder folder;
  fs::create_directory(folder / "sub");
  write_text(folder / "sub/a.ckpt", "a");
  point_link(folder / "last.ckpt", folder / "sub/a.ckpt");
  CHECK(fs::read_symlink(folder / "last.ckpt") == "sub/a.ckpt");
  CHECK(read_text(folder / "last.ckpt") == "a");
  fs::create_directory(folder / "moved");
  fs::rename(folder / "sub", folder / "moved/sub");
  fs::rename(folder / "last.ckpt", folder / "moved/last.ckpt");
  CHECK(read_text(folder / "moved/last.ckpt") == "a");
}

TEST_CASE("`last` takes the place of whatever there was", "[last_link]") {
  const TempFolder folder;
  write_text(folder / "a.ckpt", "a");
  write_text(folder / "b.ckpt", "b");
  const std::string last = folder / "last.ckpt";
  SECTION("a file") { write_text(last, "old"); }
  SECTION("a link to a file") { fs::create_symlink("b.ckpt", last); }
  SECTION("a link to itself") { fs::create_symlink("last.ckpt", last); }
  SECTION("a folder with something in it") {
    fs::create_directory(last);
    write_text(last + "/x", "x");
  }
  SECTION("a link to a folder") {
    fs::create_directory(folder / "folder");
    fs::create_symlink("folder", last);
  }
  SECTION("what a killed move left") {
    fs::create_symlink("b.ckpt", folder / ".last.ckpt.0.0.ckptio-tmp");
    fs::create_symlink("b.ckpt", last);
  }
  const bool has_folder = fs::exists(folder / "folder");
  point_link(last, folder / "a.ckpt");
  CHECK(fs::read_symlink(last) == "a.ckpt");
  CHECK(read_text(last) == "a");
  CHECK(read_text(folder / "b.ckpt") == "b");
  CHECK(fs::exists(folder / "folder") == has_folder);
  CHECK(names_in(folder.path()).size() == (has_folder ? 4 : 3));
}

TEST_CASE("At every system call `last` leads to a whole checkpoint", "[last_link]") {
  const TempFolder folder;
  const bool has_links = GENERATE(true, false), over_folder = GENERATE(true, false);
  INFO("links: " << has_links << ", over a folder: " << over_folder);
  write_text(folder / "a.ckpt", "a");
  write_text(folder / "b.ckpt", "b");
  const std::string last = folder / "last.ckpt";
  if (over_folder) {
    fs::create_directory(last);
    write_text(last + "/x", "x");
  } else {
    point_link(last, folder / "a.ckpt");
  }
  int n_calls = 0;
  {
    const SystemCallHook hook([&](const std::string& call) {
      ++n_calls;
      CHECK((read_text(last) == "a" || read_text(last) == "b" || read_text(last + "/x") == "x"));
      return call == "symlinkat" && !has_links ? EPERM : 0;
    });
    point_link(last, folder / "b.ckpt");
  }
  CHECK(n_calls > 2);
  CHECK(fs::is_symlink(last) == has_links);
  CHECK(read_text(last) == "b");
  CHECK(names_in(folder.path()).size() == 3);
}

TEST_CASE("A move of `last` that fails leaves it as it was", "[last_link]") {
  const TempFolder folder;
  write_text(folder / "a.ckpt", "a");
  write_text(folder / "b.ckpt", "b");
  point_link(folder / "last.ckpt", folder / "a.ckpt");
  {
    const SystemCallHook hook([](const std::string& call) { return call == "renameat" ? EIO : 0; });
    CHECK_THROWS_AS(point_link(folder / "last.ckpt", folder / "b.ckpt"), IoError);
  }
  CHECK(read_text(folder / "last.ckpt") == "a");
  CHECK_THROWS_AS(point_link(folder / "last.ckpt", folder / "c.ckpt"), NotFoundError);
  CHECK(read_text(folder / "last.ckpt") == "a");
}

TEST_CASE("`last` is never linked to itself", "[last_link]") {
  const TempFolder folder;
  write_text(folder / "last.ckpt", "last");
  point_link(folder / "last.ckpt", folder / "./last.ckpt");
  CHECK_FALSE(fs::is_symlink(folder / "last.ckpt"));
  CHECK(read_text(folder / "last.ckpt") == "last");
}

TEST_CASE("A checkpoint that is a folder is linked, or copied with all that is in it", "[last_link]") {
  const TempFolder folder;
  const bool has_links = GENERATE(true, false);
  fs::create_directories(folder / "a.ckpt/sub");
  write_text(folder / "a.ckpt/sub/x", "x");
  {
    const SystemCallHook hook([&](const std::string& call) { return call == "symlinkat" && !has_links ? EPERM : 0; });
    point_link(folder / "last.ckpt", folder / "a.ckpt");
  }
  CHECK(read_text(folder / "last.ckpt/sub/x") == "x");
  CHECK(fs::is_symlink(folder / "last.ckpt") == has_links);
}

}  // namespace
}  // namespace ckptio::test
