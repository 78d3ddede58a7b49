// SPDX-License-Identifier: Apache-2.0
#include "loggers/csv_file.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "ckptio/error.h"
#include "ckptio/trainer/log_folder.h"
#include "loggers/number_text.h"
#include "support/catch.h"
#include "support/random_seed.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

namespace fs = std::filesystem;
using detail::CsvFile;

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

TEST_CASE("A CSV file grows by rows, and by columns when a row brings new ones", "[loggers]") {
  const TempFolder folder;
  CsvFile csv(folder / "metrics.csv");
  csv.flush();
  CHECK_FALSE(fs::exists(csv.path()));
  csv.add({{"step", "1"}, {"loss", "0.5"}});
  CHECK_FALSE(fs::exists(csv.path()));
  csv.flush();
  CHECK(text_of(csv.path()) == "loss,step\n0.5,1\n");
  csv.add({{"step", "2"}});
  csv.add({{"step", "3"}, {"loss", "0.25"}});
  csv.flush();
  CHECK(text_of(csv.path()) == "loss,step\n0.5,1\n,2\n0.25,3\n");
  csv.add({{"step", "3"}, {"acc", "1.0"}});
  csv.flush();
  CHECK(text_of(csv.path()) == "acc,loss,step\n,0.5,1\n,,2\n,0.25,3\n1.0,,3\n");
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("A CSV file that is there is gone on with", "[loggers]") {
  const TempFolder folder;
  const std::string path = folder / "metrics.csv";
  const auto add = [&](CsvFile::Row row) {
    CsvFile csv(path);
    csv.add(std::move(row));
    csv.flush();
  };
  SECTION("with the columns in its own order, and lines that end as on Windows") {
    write(path, "step,loss\r\n1,0.5\r\n");
    add({{"step", "2"}, {"loss", "0.25"}});
    CHECK(text_of(path) == "step,loss\r\n1,0.5\r\n2,0.25\n");
    add({{"step", "3"}, {"acc", "1"}});
    CHECK(text_of(path) == "acc,loss,step\n,0.5,1\n,0.25,2\n1,,3\n");
  }
  SECTION("without the line that a crash cut short") {
    write(path, "loss,step\n0.5,1\n0.12");
    add({{"loss", "0.125"}, {"step", "2"}});
    CHECK(text_of(path) == "loss,step\n0.5,1\n0.125,2\n");
    write(path, "loss,st");
    add({{"loss", "0.5"}});
    CHECK(text_of(path) == "loss\n0.5\n");
  }
  SECTION("but not if it is no such table") {
    write(path, "a,b\n1,2\n1,2,3\n");
    CHECK_THROWS_WITH(add({{"a", "1"}}), "'" + path + "', line 3: 3 cells found, at most 2 expected");
    write(path, "a,a\n");
    CHECK_THROWS_AS(add({{"a", "1"}}), CorruptError);
    write(path, "a,b\n\"1\"x,2\n");
    CHECK_THROWS_AS(add({{"a", "1"}}), CorruptError);
    CHECK(text_of(path) == "a,b\n\"1\"x,2\n");
  }
  SECTION("and made again if somebody removes it") {
    CsvFile csv(path);
    csv.add({{"a", "1"}});
    csv.flush();
    fs::remove(path);
    csv.add({{"a", "2"}});
    csv.flush();
    CHECK(text_of(path) == "a\n2\n");
  }
}

TEST_CASE("Rows that could not be written are kept for the next time", "[loggers]") {
  const TempFolder folder;
  CsvFile csv(folder / "metrics.csv");
  csv.add({{"a", "1"}});
  fs::create_directory(csv.path());
  CHECK_THROWS_AS(csv.flush(), IoError);
  fs::remove(csv.path());
  csv.flush();
  CHECK(text_of(csv.path()) == "a\n1\n");
}

TEST_CASE("CSV cells come back as they were, whatever they hold", "[loggers]") {
  std::mt19937 random(random_seed());
  const TempFolder folder;
  const std::string alphabet = "ab,\"\n\r; '";
  const auto text = [&](std::size_t longest) {
    std::string result;
    for (std::size_t n = random() % (longest + 1); n > 0; --n) result += alphabet[random() % alphabet.size()];
    return result;
  };
  std::vector<CsvFile::Row> rows;
  CsvFile csv(folder / "random.csv");
  for (int i = 0; i < 60; ++i) {
    CsvFile::Row row{{"step", std::to_string(i)}};
    for (std::size_t n = random() % 4; n > 0; --n) row["m" + text(3)] = text(6);
    rows.push_back(row);
    csv.add(row);
    if (random() % 3 == 0) csv.flush();
  }
  csv.flush();
  const detail::CsvText found = detail::parse_csv(text_of(csv.path()), csv.path());
  REQUIRE(found.lines.size() == rows.size() + 1);
  CHECK_FALSE(found.is_torn);
  CHECK(std::ranges::is_sorted(found.lines[0]));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t k = 0; k < found.lines[0].size(); ++k) {
      CHECK(found.lines.at(i + 1).at(k) == rows[i][found.lines[0][k]]);
    }
  }
}

TEST_CASE("Numbers are written as Python writes them", "[loggers]") {
  using detail::fixed_text;
  using detail::number_text;
  CHECK(number_text(1) == "1.0");
  CHECK(number_text(-0.0) == "-0.0");
  CHECK(number_text(0.1) == "0.1");
  CHECK(number_text(0.1f) == "0.10000000149011612");
  CHECK(number_text(100000) == "100000.0");
  CHECK(number_text(1e15) == "1000000000000000.0");
  CHECK(number_text(1e16) == "1e+16");
  CHECK(number_text(0.0001) == "0.0001");
  CHECK(number_text(0.00001) == "1e-05");
  CHECK(number_text(-1.5e-300) == "-1.5e-300");
  CHECK(number_text(std::nan("")) == "nan");
  CHECK(number_text(-INFINITY) == "-inf");
  CHECK(fixed_text(0.30000001, 3) == "0.300");
  CHECK(fixed_text(1e300, 1).size() == 303);
  CHECK(fixed_text(INFINITY, 3) == "inf");
}

TEST_CASE("A log's folder is the one that is named, or the next number", "[loggers]") {
  const TempFolder folder;
  using detail::LogFolder;
  const std::string root = folder / "logs";
  CHECK(LogFolder(root, "run", 7).path() == root + "/run/version_7");
  CHECK(LogFolder(root, "run", "best").path() == root + "/run/best");
  CHECK(LogFolder(root, "", "").path() == root);
  CHECK_FALSE(fs::exists(root));
  CHECK_THROWS_AS(LogVersion(-1), ValueError);

  const LogFolder first(root, "run", {}), second(root, "run", {});
  CHECK(second.version() == "version_0");  // who asks first
  CHECK(first.version() == "version_1");
  CHECK(first.version() == "version_1");
  CHECK(fs::is_directory(root + "/run/version_1"));
  fs::create_directory(root + "/run/version_9");
  fs::create_directory(root + "/run/version_x");
  fs::create_directory(root + "/run/best");
  CHECK(LogFolder(root, "run", std::nullopt).version() == "version_10");
  CHECK(LogFolder(root, "", {}).version() == "version_0");

  write(folder / "file", "");
  CHECK_THROWS_AS(LogFolder(folder / "file", "run", {}).version(), IoError);
}

}  // namespace
}  // namespace ckptio::test
