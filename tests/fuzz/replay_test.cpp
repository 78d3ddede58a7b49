// SPDX-License-Identifier: Apache-2.0
// Every input that once made a fuzzer fail, and those the fuzzers start from, go through the fuzzers' functions.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/fuzz.h"
#include "support/catch.h"

using namespace ckptio::test;
namespace fs = std::filesystem;

namespace {

using Target = std::function<void(const std::uint8_t*, std::size_t)>;

std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> files;
  if (!fs::exists(folder)) return files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

void replay(const std::string& name, const Target& target) {
  const std::string base = CKPTIO_FUZZ_DIR;
  std::vector<fs::path> files = files_in(base + "/corpus/" + name);
  CHECK_FALSE(files.empty());
  const std::vector<fs::path> findings = files_in(base + "/findings/" + name);
  files.insert(files.end(), findings.begin(), findings.end());
  for (const auto& file : files) {
    INFO(file.string());
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    CHECK_NOTHROW(target(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
  }
}

}  // namespace

TEST_CASE("Fuzz.InputsOfArchiveAreReadOrRefused", "[fuzz]") { replay("archive", fuzz_archive); }
TEST_CASE("Fuzz.InputsOfLegacyAreReadOrRefused", "[fuzz]") { replay("legacy", fuzz_legacy); }
TEST_CASE("Fuzz.InputsOfPickleAreReadOrRefused", "[fuzz]") { replay("pickle", fuzz_pickle); }
TEST_CASE("Fuzz.InputsOfSafetensorsAreReadOrRefused", "[fuzz]") { replay("safetensors", fuzz_safetensors); }
TEST_CASE("Fuzz.InputsOfZipAreReadOrRefused", "[fuzz]") { replay("zip", fuzz_zip); }
