// SPDX-License-Identifier: Apache-2.0
// What TorchCheckpointIO makes of damaged files.
#include <torch/torch.h>

#include <random>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/storage/memory_storage.h"
#include "codec/zip_reader.h"
#include "support/catch.h"
#include "support/raw_zip.h"
#include "support/storage_helpers.h"

using namespace ckptio;
using ckptio::test::ContainsSubstring;

namespace {

const Checkpoint& checkpoint() {
  static const Checkpoint value{
      {"epoch", 3}, {"state_dict", Dict{{"w", torch::arange(300, torch::kFloat)}}}, {"text", "some words"}};
  return value;
}

struct Fixture {
  std::shared_ptr<MemoryStorage> storage = std::make_shared<MemoryStorage>();
  TorchCheckpointIO io{storage};
  std::string good;

  Fixture() {
    io.save_checkpoint(checkpoint(), "good");
    good = test::read_file(*storage, "good");
  }

  // The error's message, "" where it loads to the right content; fails on anything else.
  std::string outcome(const std::string& bytes) {
    test::write_file(*storage, "bad", bytes);
    try {
      const auto loaded = io.load_checkpoint("bad");
      REQUIRE(loaded == checkpoint());
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }
};

}  // namespace

TEST_CASE("Empty files, text and foreign archives are named as what they are", "[torch][corrupt]") {
  Fixture fixture;
  test::write_file(*fixture.storage, "bad", "");
  CHECK_THROWS_AS(fixture.io.load_checkpoint("bad"), CorruptError);
  CHECK_THROWS_WITH(fixture.io.load_checkpoint("bad"), ContainsSubstring("bad") && ContainsSubstring("empty"));
  test::write_file(*fixture.storage, "bad", "this is no checkpoint at all");
  CHECK_THROWS_AS(fixture.io.load_checkpoint("bad"), CorruptError);
}

TEST_CASE("A file cut short anywhere is CorruptError", "[torch][corrupt]") {
  Fixture fixture;
  for (std::size_t size = 0; size < fixture.good.size(); size += 1 + size % 7) {
    INFO(size << " bytes of " << fixture.good.size());
    test::write_file(*fixture.storage, "bad", fixture.good.substr(0, size));
    REQUIRE_THROWS_AS(fixture.io.load_checkpoint("bad"), CorruptError);
  }
}

TEST_CASE("Every flipped bit of a tensor's bytes is caught by its CRC", "[torch][corrupt]") {
  Fixture fixture;
  const auto& tensor = checkpoint().at("state_dict").at("w").as<at::Tensor>();
  const std::size_t begin =
      fixture.good.find(std::string(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()));
  REQUIRE(begin != std::string::npos);
  for (std::size_t bit = 0; bit < 8 * tensor.nbytes(); bit += 5) {
    std::string bad = fixture.good;
    bad[begin + bit / 8] = static_cast<char>(bad[begin + bit / 8] ^ (1 << bit % 8));
    test::write_file(*fixture.storage, "bad", bad);
    REQUIRE_THROWS_WITH(fixture.io.load_checkpoint("bad"), ContainsSubstring("data/0"));
  }
}

TEST_CASE("A flipped bit anywhere is an error or changes nothing", "[torch][corrupt]") {
  Fixture fixture;
  const auto seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  int n_caught = 0;
  for (int i = 0; i < 1500; ++i) {
    std::string bad = fixture.good;
    const std::size_t bit = random() % (8 * bad.size());
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    INFO("bit " << bit);
    n_caught += fixture.outcome(bad).empty() ? 0 : 1;
  }
  CHECK(n_caught > 700);
}

TEST_CASE("A file of a newer format version names both versions", "[torch][corrupt]") {
  torch::serialize::OutputArchive archive;
  archive.write("ckptio_format_version", c10::IValue(std::int64_t{7}));
  std::string bytes;
  archive.save_to([&bytes](const void* data, std::size_t n_bytes) {
    bytes.append(static_cast<const char*>(data), n_bytes);
    return n_bytes;
  });
  Fixture fixture;
  test::write_file(*fixture.storage, "new", bytes);
  CHECK_THROWS_AS(fixture.io.load_checkpoint("new"), UnsupportedError);
  CHECK_THROWS_WITH(fixture.io.load_checkpoint("new"),
                    ContainsSubstring("version is 7") && ContainsSubstring("up to 2"));
}

TEST_CASE("An archive as LibTorch wrote them before 1.4, or with what rules those, is named as such",
          "[torch][corrupt]") {
  Fixture fixture;
  test::RawZip zip;
  SECTION("on its own") { zip.add("archive/version", "1\n"); }
  SECTION("within a whole checkpoint, where it would stand for all of it") {
    const ckptio::detail::ZipReader reader(
        ckptio::detail::memory_source("good", fixture.good.data(), fixture.good.size()));
    for (const auto& record : reader.records()) {
      const auto content = reader.read(record);
      zip.add(record.name, {content.begin(), content.end()});
    }
    CHECK(fixture.outcome(zip.bytes()).empty());
  }
  const std::string folder = zip.records[0].name.substr(0, zip.records[0].name.find('/'));
  zip.add(folder + "/" + GENERATE("model.json", "MODEL.json"), "{}");
  test::write_file(*fixture.storage, "old", zip.bytes());
  CHECK_THROWS_AS(fixture.io.load_checkpoint("old"), UnsupportedError);
  CHECK_THROWS_WITH(fixture.io.load_checkpoint("old"), ContainsSubstring("LibTorch before 1.4"));
}
