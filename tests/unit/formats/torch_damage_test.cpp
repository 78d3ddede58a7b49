// SPDX-License-Identifier: Apache-2.0
// What TorchCheckpointIO makes of damaged files.
#include <torch/torch.h>

#include <algorithm>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/storage/memory_storage.h"
#include "codec/zip_reader.h"
#include "support/catch.h"
#include "support/libtorch_archive.h"
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

// An archive's records, to be changed and put together again with checksums that fit.
test::RawZip unpacked(const std::string& bytes) {
  const ckptio::detail::ZipReader reader(ckptio::detail::memory_source("good", bytes.data(), bytes.size()));
  test::RawZip zip;
  for (const auto& record : reader.records()) {
    const auto content = reader.read(record);
    zip.add(std::string(record.name), {content.begin(), content.end()});
  }
  return zip;
}

test::RawZipRecord& record_of(test::RawZip& zip, const std::string& name) {
  const auto found = std::find_if(zip.records.begin(), zip.records.end(),
                                  [&](const auto& record) { return record.name.ends_with("/" + name); });
  REQUIRE(found != zip.records.end());
  return *found;
}

std::string content_of(test::RawZip& zip, const std::string& name) { return record_of(zip, name).data; }

void replace(test::RawZip& zip, const std::string& name, const std::string& content) {
  test::RawZipRecord& record = record_of(zip, name);
  record = test::RawZip().add(record.name, content);
}

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
  std::size_t n_caught = 0;
  for (std::size_t bit = 0; bit < 8 * fixture.good.size(); ++bit) {
    INFO("bit " << bit);
    std::string bad = fixture.good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    n_caught += fixture.outcome(bad).empty() ? 0 : 1;
  }
  CHECK(n_caught > 4 * fixture.good.size());
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
    zip = unpacked(fixture.good);
    CHECK(fixture.outcome(zip.bytes()).empty());
  }
  const std::string folder = zip.records[0].name.substr(0, zip.records[0].name.find('/'));
  zip.add(folder + "/" + GENERATE("model.json", "MODEL.json"), "{}");
  test::write_file(*fixture.storage, "old", zip.bytes());
  CHECK_THROWS_AS(fixture.io.load_checkpoint("old"), UnsupportedError);
  CHECK_THROWS_WITH(fixture.io.load_checkpoint("old"), ContainsSubstring("LibTorch before 1.4"));
}

// What LibTorch's own reader would end the process with, or fill its memory.
TEST_CASE("Code of an archive that LibTorch would crash on is left unread", "[torch][corrupt]") {
  Fixture fixture;
  test::RawZip zip = unpacked(fixture.good);
  std::string code = content_of(zip, "code/__torch__.py");
  const std::string type = "Dict[str, Any]";
  const std::size_t at = code.find(type);
  REQUIRE(at != std::string::npos);
  SECTION("types nested beyond its stack") {
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += "List[";
    code.replace(at, type.size(), deep + "int" + std::string(100'000, ']'));
  }
  SECTION("classes that need one another beyond its stack") {
    for (int i = 0; i < 20'000; ++i) {
      code += "class C" + std::to_string(i) + "(Module):\n  x : __torch__.C" + std::to_string(i + 1) + "\n";
    }
    code.replace(at, type.size(), "__torch__.C0");
  }
  SECTION("an enum without values") {
    code += "class E(Enum):\n  x : Tensor\n";
    code.replace(at, type.size(), "__torch__.E");
  }
  replace(zip, "code/__torch__.py", code);
  CHECK(fixture.outcome(zip.bytes()).empty());
}

TEST_CASE("A number of a memo entry that LibTorch would make a table of is CorruptError", "[torch][corrupt]") {
  Fixture fixture;
  test::RawZip zip = unpacked(fixture.good);
  const std::string record = GENERATE("data.pkl", "constants.pkl");
  std::string pickle = content_of(zip, record);
  pickle.insert(pickle.size() - 1, "r\xff\xff\xff\x7f");
  replace(zip, record, pickle);
  CHECK_THAT(fixture.outcome(zip.bytes()), ContainsSubstring("memo entry 2147483647"));
}

TEST_CASE("A storage that a file names again and again is one storage", "[torch][corrupt]") {
  Fixture fixture;
  test::LibTorchArchive archive;
  const std::int64_t n_elements = std::int64_t{1} << 20;
  const std::vector<std::string> tensors(50, test::pickle::floats("0", n_elements));
  archive.data = test::pickle::object(
      "Module", {test::pickle::str("ckptio_format_version"), test::pickle::integer(1), test::pickle::str("checkpoint"),
                 test::pickle::dict({test::pickle::str("x"), test::pickle::list(tensors)})});
  archive.code = {
      {"__torch__.py", "class Module(Module):\n  ckptio_format_version : int\n  checkpoint : Dict[str, Any]\n"}};
  archive.storages = {{"data/0", std::string(4 * n_elements, '\0')}};
  test::write_file(*fixture.storage, "again", archive.bytes());
  const Value loaded = fixture.io.load_checkpoint("again")->at("x");
  REQUIRE(loaded.size() == tensors.size());
  const void* memory = loaded.at(0).as<at::Tensor>().const_data_ptr();
  for (const Value& tensor : loaded.as<List>()) REQUIRE(tensor.as<at::Tensor>().const_data_ptr() == memory);
}
