// SPDX-License-Identifier: Apache-2.0
// What the engine writes and reads, whatever the sizes, the threads and the place; and what it leaves on errors.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ckptio/error.h"
#include "codec/checksum.h"
#include "engine/io_engine.h"
#include "engine/part_runner.h"
#include "support/catch.h"
#include "support/random_seed.h"

using namespace ckptio;
using namespace ckptio::detail;
using ckptio::test::ContainsSubstring;
using ckptio::test::random_seed;

namespace {

constexpr std::size_t kBlockBytes = 4096;

bool is_whole_blocks(std::uint64_t offset, const void* data, std::size_t n_bytes) {
  return n_bytes > 0 && offset % kBlockBytes == 0 && n_bytes % kBlockBytes == 0 &&
         reinterpret_cast<std::uintptr_t>(data) % kBlockBytes == 0;
}

// What a place takes: appends, positional writes, or these and whole blocks past the caches.
enum class Place : std::uint8_t { appends, positions, blocks };
constexpr Place kPlaces[] = {Place::appends, Place::positions, Place::blocks};

// A file in memory; the write of number `failing_write` fails.
class PlainFile final : public WritableFile {
 public:
  explicit PlainFile(Place place, int failing_write = -1)
      : can_write_at_(place != Place::appends), has_blocks_(place == Place::blocks), failing_write_(failing_write) {}

  void append(const void* data, std::size_t n_bytes) override {
    if (can_write_at_) throw IoError("cannot write 'x': append() where write_at() works");
    count_write();
    content_.append(static_cast<const char*>(data), n_bytes);
  }
  void commit() override { FAIL("the engine commits nothing"); }
  bool can_write_at() const override { return can_write_at_; }
  void write_at(std::uint64_t offset, const void* data, std::size_t n_bytes) override {
    count_write();
    const std::scoped_lock lock(mutex_);
    if (content_.size() < offset + n_bytes) content_.resize(offset + n_bytes, '?');  // what nobody wrote is seen
    content_.replace(offset, n_bytes, static_cast<const char*>(data), n_bytes);
  }
  void reserve(std::uint64_t n_bytes) override { reserved_ = n_bytes; }
  std::size_t direct_block_bytes() const override { return has_blocks_ ? kBlockBytes : 0; }
  void write_direct_at(std::uint64_t offset, const void* data, std::size_t n_bytes) override {
    if (!is_whole_blocks(offset, data, n_bytes)) throw IoError("cannot write 'x': no whole blocks");
    n_direct += n_bytes;
    write_at(offset, data, n_bytes);
  }

  std::atomic<std::uint64_t> n_direct{0};

  const std::string& content() const { return content_; }
  std::uint64_t reserved() const { return reserved_; }

 private:
  void count_write() {
    if (n_writes_++ == failing_write_) throw IoError("cannot write 'x': the place is full");
  }

  const bool can_write_at_, has_blocks_;
  const int failing_write_;
  std::atomic<int> n_writes_{0};
  std::mutex mutex_;
  std::string content_;
  std::uint64_t reserved_ = 0;
};

class PlainSource final : public RandomAccessFile {
 public:
  // `n_on_disk`: of the content's last bytes, so many are read in blocks.
  explicit PlainSource(std::string content, int failing_read = -1, std::size_t n_on_disk = 0)
      : content_(std::move(content)), failing_read_(failing_read), n_on_disk_(n_on_disk) {}

  std::uint64_t size() const override { return content_.size(); }
  void read_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const override {
    if (n_reads++ == failing_read_) throw IoError("cannot read 'x': a broken disk");
    if (offset > content_.size() || n_bytes > content_.size() - offset)
      throw IoError("cannot read 'x': a range outside the file");
    std::memcpy(destination, content_.data() + offset, n_bytes);
    n_read += n_bytes;
  }

  std::size_t direct_block_bytes(std::uint64_t offset, std::size_t n_bytes) const override {
    return offset + n_on_disk_ >= content_.size() && n_bytes > 0 ? kBlockBytes : 0;
  }
  void read_direct_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const override {
    if (!is_whole_blocks(offset, destination, n_bytes) || offset + n_bytes >= content_.size() + kBlockBytes)
      throw IoError("cannot read 'x': no whole blocks");
    n_direct += n_bytes;
    RandomAccessFile::read_direct_at(offset, destination, n_bytes);
  }

  mutable std::atomic<std::uint64_t> n_direct{0};
  mutable std::atomic<int> n_reads{0};
  mutable std::atomic<std::uint64_t> n_read{0};

 private:
  const std::string content_;
  const int failing_read_;
  const std::size_t n_on_disk_;
};

std::string bytes_of(std::mt19937_64& random, std::size_t n_bytes) {
  std::string bytes(n_bytes + 8, '\0');
  for (std::size_t i = 0; i < n_bytes; i += 8) {
    const std::uint64_t value = random();
    std::memcpy(bytes.data() + i, &value, 8);
  }
  bytes.resize(n_bytes);
  return bytes;
}

// Sizes at and around everything that the engine treats differently.
std::size_t some_size(std::mt19937_64& random) {
  constexpr std::size_t kEdges[] = {0, 1, 64, 4096, kSmallBytes, kChunkBytes, kPartBytes, 2 * kPartBytes + kChunkBytes};
  const std::size_t edge = kEdges[random() % std::size(kEdges)];
  switch (random() % 4) {
    case 0:
      return edge;
    case 1:
      return edge + random() % 100;
    case 2:
      return edge - std::min<std::size_t>(edge, random() % 100);
    default:
      return random() % (edge + 1);
  }
}

void put(const std::string& bytes, void* to) { std::memcpy(to, bytes.data(), bytes.size()); }

struct Content {
  std::string head, data, tail_mark;
};

// A file of random records: what it should be, and the plan that makes it.
class Sample {
 public:
  Sample(std::mt19937_64& random, std::size_t n_records, bool has_tails = true) : contents_(n_records) {
    std::uint64_t at = 0;
    for (Content& content : contents_) {
      content.head = bytes_of(random, random() % 20 == 0 ? some_size(random) : random() % 200);
      content.data = bytes_of(random, some_size(random));
      content.tail_mark = has_tails ? bytes_of(random, random() % 3 == 0 ? 0 : random() % 20) : "";
      WriteRecord record;
      record.begin_offset = at;
      record.data_offset = at + content.head.size();
      record.n_bytes = content.data.size();
      record.end_offset = record.data_offset + record.n_bytes + (has_tails ? content.tail_mark.size() + 4 : 0);
      if (random() % 3 == 0) {
        record.fill = [&content](std::uint64_t begin, void* destination, std::size_t n_bytes) {
          std::memcpy(destination, content.data.data() + begin, n_bytes);
        };
      } else {
        record.data = content.data.data();
      }
      plan_.records.push_back(record);
      at = record.end_offset;
    }
    plan_.head = [this](std::size_t i, void* to) { put(contents_[i].head, to); };
    if (has_tails) plan_.tail = [this](std::size_t i, std::uint32_t crc, void* to) { put(tail(i, crc), to); };
    plan_.end = [](const std::vector<std::uint32_t>& crcs) {
      std::string end = "end";
      for (const std::uint32_t crc : crcs) end += as_bytes(crc);
      return end;
    };
    plan_.file_size = at + 3 + 4 * n_records;
  }
  Sample(const Sample&) = delete;
  Sample& operator=(const Sample&) = delete;

  const WritePlan& plan() const { return plan_; }
  const std::vector<Content>& contents() const { return contents_; }
  WritePlan& change() { return plan_; }

  std::string expected() const {
    std::string file;
    std::vector<std::uint32_t> crcs;
    for (std::size_t i = 0; i < contents_.size(); ++i) {
      const Content& content = contents_[i];
      crcs.push_back(plan_.tail ? crc32(0, content.data.data(), content.data.size()) : 0);
      file += content.head + content.data;
      if (plan_.tail) file += tail(i, crcs.back());
    }
    return file + plan_.end(crcs);
  }

 private:
  static std::string as_bytes(std::uint32_t crc) { return {reinterpret_cast<const char*>(&crc), sizeof crc}; }
  std::string tail(std::size_t i, std::uint32_t crc) const { return contents_[i].tail_mark + as_bytes(crc); }

  std::vector<Content> contents_;
  WritePlan plan_;
};

// Where two strings differ first; comparing megabytes by CHECK would print them.
std::string difference(const std::string& found, const std::string& expected) {
  if (found.size() != expected.size())
    return std::to_string(found.size()) + " bytes found, " + std::to_string(expected.size()) + " expected";
  const auto place = std::mismatch(found.begin(), found.end(), expected.begin()).first;
  return place == found.end() ? "" : "byte " + std::to_string(place - found.begin());
}

struct Damage {
  std::size_t index;
  std::uint32_t crc;
};

// Memory in which a part of a file has its place.
class Window {
 public:
  Window(std::uint64_t begin, std::uint64_t end) : begin_(begin), n_bytes_(end - begin), bytes_(n_bytes_ + 64, '!') {}

  ReadWindow plan() const { return {begin_, n_bytes_, memory()}; }
  char* place_of(std::uint64_t offset) const { return memory() + (offset - begin_); }
  bool is_intact_around() const {
    return bytes_.find_first_not_of('!') >= kAround &&
           bytes_.find_last_not_of('!') + 1 <= kAround + n_bytes_;  // npos + 1 is 0
  }

 private:
  static constexpr std::size_t kAround = 32;
  char* memory() const { return bytes_.data() + kAround; }

  std::uint64_t begin_;
  std::size_t n_bytes_;
  mutable std::string bytes_;
};

// The data of a sample's records, to be read back into memory of their own, or with windows over some of them.
struct Reading {
  ReadPlan plan;

  Reading(const Sample& sample, ReadCheck check, std::mt19937_64& random, bool has_windows = false) {
    plan.check = check;
    plan.report_damage = [](std::size_t index, std::uint32_t found) { throw Damage{index, found}; };
    const auto& contents = sample.contents();
    for (const Content& content : contents) own_.emplace_back(content.data.size(), '!');
    const Window* window = nullptr;
    std::size_t n_left = 0;  // of records for the window
    for (std::size_t i = 0; i < contents.size(); ++i) {
      const WriteRecord& record = sample.plan().records[i];
      if (n_left > 0) {
        --n_left;
      } else {
        window = nullptr;
        if (has_windows && random() % 3 != 0) window = open_window(sample, i, n_left = random() % 4);
      }
      destinations_.push_back(window != nullptr && random() % 4 != 0 ? window->place_of(record.data_offset)
                                                                     : own_[i].data());
      plan.ranges.push_back({record.data_offset, record.n_bytes, destinations_.back(),
                             crc32(0, contents[i].data.data(), contents[i].data.size())});
      n_bytes_.push_back(contents[i].data.size());
    }
    for (const auto& each : windows_) plan.windows.push_back(each->plan());
    std::shuffle(plan.ranges.begin(), plan.ranges.end(), random);
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

  std::size_t size() const { return destinations_.size(); }
  std::string found(std::size_t i) const { return {destinations_[i], n_bytes_[i]}; }

  bool is_untouched() const {
    for (std::size_t i = 0; i < size(); ++i) {
      if (found(i).find_first_not_of('!') != std::string::npos) return false;
    }
    return true;
  }
  bool is_intact_around_windows() const {
    return std::all_of(windows_.begin(), windows_.end(), [](const auto& window) { return window->is_intact_around(); });
  }

 private:
  // Over record `first` and so many more.
  const Window* open_window(const Sample& sample, std::size_t first, std::size_t& n_more) {
    const auto& records = sample.plan().records;
    n_more = std::min(n_more, records.size() - 1 - first);
    const WriteRecord& last = records[first + n_more];
    windows_.push_back(std::make_unique<Window>(records[first].data_offset, last.data_offset + last.n_bytes));
    return windows_.back().get();
  }

  std::vector<std::string> own_;
  std::vector<std::unique_ptr<Window>> windows_;
  std::vector<char*> destinations_;
  std::vector<std::size_t> n_bytes_;
};

}  // namespace

TEST_CASE("IoEngine.AFileIsTheSameWhateverTheThreadsAndThePlace", "[engine]") {
  std::mt19937_64 random(random_seed());
  for (int round = 0; round < 8; ++round) {
    const Sample sample(random, random() % 15, round % 4 != 3);
    const std::string expected = sample.expected();
    for (const std::size_t n_threads : {1, 2, 5}) {
      IoEngine engine({n_threads});
      CHECK(engine.n_threads() == n_threads);
      for (const Place place : kPlaces) {
        INFO("round " << round << ", " << n_threads << " threads, place " << static_cast<int>(place));
        PlainFile file(place);
        engine.write(file, sample.plan());
        REQUIRE(difference(file.content(), expected).empty());
        CHECK(file.reserved() == sample.plan().file_size);
      }
    }
  }
}

TEST_CASE("IoEngine.TailsBesideAndAcrossTheBordersOfParts", "[engine]") {
  std::mt19937_64 random(random_seed());
  // The second record's tail, of 24 bytes, moves over the border byte by byte.
  for (std::size_t shift = 0; shift <= 26; ++shift) {
    WritePlan plan;
    const std::string data = bytes_of(random, kPartBytes - shift);
    plan.records = {{0, 0, kPartBytes - shift, kPartBytes - shift + 24, data.data()},
                    {kPartBytes - shift + 24, kPartBytes - shift + 24, 0, kPartBytes - shift + 48, nullptr}};
    const auto tail = [](std::size_t index, std::uint32_t crc) {
      std::string text = std::to_string(index) + ":" + std::to_string(crc);
      return text + std::string(24 - text.size(), '.');
    };
    plan.tail = [&](std::size_t index, std::uint32_t crc, void* to) { put(tail(index, crc), to); };
    const std::string expected = data + tail(0, crc32(0, data.data(), data.size())) + tail(1, 0);
    plan.file_size = expected.size();
    for (const Place place : kPlaces) {
      INFO("shift " << shift << ", place " << static_cast<int>(place));
      IoEngine engine({2});
      PlainFile file(place);
      engine.write(file, plan);
      REQUIRE(difference(file.content(), expected).empty());
    }
  }
}

TEST_CASE("IoEngine.ALargeEndGoesPastTheCachesToo", "[engine]") {
  std::mt19937_64 random(random_seed());
  for (const std::size_t n_end : {kSmallBytes, kSmallBytes + 1, std::size_t{200'000}, std::size_t{3} << 20}) {
    Sample sample(random, 10);
    const std::string end = bytes_of(random, n_end);
    sample.change().end = [&end](const std::vector<std::uint32_t>&) { return end; };
    sample.change().file_size = sample.plan().records.back().end_offset + n_end;
    PlainFile file(Place::blocks);
    IoEngine({2}).write(file, sample.plan());
    CHECK(difference(file.content(), sample.expected()).empty());
    CHECK(file.n_direct == sample.plan().file_size / kBlockBytes * kBlockBytes);
  }
}

TEST_CASE("IoEngine.AllButTheLastBlockGoesPastTheCachesWhereThePlaceTakesThat", "[engine]") {
  std::mt19937_64 random(random_seed());
  const Sample sample(random, 30);
  const std::string expected = sample.expected();
  const std::uint64_t records_end = sample.plan().records.back().end_offset;
  PlainFile file(Place::blocks);
  IoEngine({2}).write(file, sample.plan());
  CHECK(difference(file.content(), expected).empty());
  CHECK(file.n_direct == records_end / kBlockBytes * kBlockBytes);

  const PlainSource source(expected, -1, expected.size());
  Reading once(sample, ReadCheck::while_reading, random);
  IoEngine({2}).read(source, once.plan);
  CHECK(source.n_direct > 0);
  // The second pass is to find in the caches what the first one read.
  const PlainSource twice(expected, -1, expected.size());
  Reading reading(sample, ReadCheck::before_reading, random);
  IoEngine({2}).read(twice, reading.plan);
  CHECK(twice.n_direct == 0);
}

TEST_CASE("IoEngine.AnEmptyPlanWritesItsEnd", "[engine]") {
  IoEngine engine;
  CHECK(engine.n_threads() == default_io_threads());
  WritePlan plan;
  plan.end = [](const auto& crcs) { return crcs.empty() ? std::string("nothing") : std::string("something"); };
  PlainFile file(Place::positions);
  engine.write(file, plan);
  CHECK(file.content() == "nothing");
  engine.read(PlainSource(""), {});
}

TEST_CASE("IoEngine.AnErrorOfTheFileIsThrownAndTheEngineGoesOn", "[engine]") {
  std::mt19937_64 random(random_seed());
  const Sample sample(random, 20);
  const std::string expected = sample.expected();
  IoEngine engine({3});
  for (const Place place : kPlaces) {
    for (const int failing_write : {0, 1}) {
      PlainFile file(place, failing_write);
      CHECK_THROWS_WITH(engine.write(file, sample.plan()), ContainsSubstring("the place is full"));
      PlainFile good(place);
      engine.write(good, sample.plan());
      CHECK(difference(good.content(), expected).empty());
    }
  }
}

TEST_CASE("IoEngine.AnErrorWhileBytesAreMadeIsThrown", "[engine]") {
  std::mt19937_64 random(random_seed());
  Sample sample(random, 20);
  auto& records = sample.change().records;
  WriteRecord& record = *std::max_element(records.begin(), records.end(),
                                          [](const auto& a, const auto& b) { return a.n_bytes < b.n_bytes; });
  record.data = nullptr;
  record.fill = [](std::uint64_t, void*, std::size_t) { throw UnsupportedError("no such bytes"); };
  for (const Place place : kPlaces) {
    PlainFile file(place);
    CHECK_THROWS_AS(IoEngine({2}).write(file, sample.plan()), UnsupportedError);
  }
}

TEST_CASE("IoEngine.RangesAreReadWhereverTheyStand", "[engine]") {
  std::mt19937_64 random(random_seed());
  for (int round = 0; round < 6; ++round) {
    const Sample sample(random, random() % 15);
    const std::string content = sample.expected();
    const PlainSource in_memory(content), on_disk(content, -1, content.size()),
        in_part(content, -1, content.size() / 3);
    const PlainSource* const sources[] = {&in_memory, &on_disk, &in_part};
    for (const std::size_t n_threads : {1, 2, 5}) {
      for (const ReadCheck check : {ReadCheck::none, ReadCheck::while_reading, ReadCheck::before_reading}) {
        INFO("round " << round << ", " << n_threads << " threads, check " << static_cast<int>(check));
        for (const bool has_windows : {false, true}) {
          Reading reading(sample, check, random, has_windows);
          IoEngine({n_threads}).read(*sources[round % 3], reading.plan);
          for (std::size_t i = 0; i < reading.size(); ++i)
            REQUIRE(difference(reading.found(i), sample.contents()[i].data).empty());
          REQUIRE(reading.is_intact_around_windows());
        }
      }
    }
  }
}

TEST_CASE("IoEngine.TheFirstDamagedRangeIsReportedAndOnePassMoreKeepsDestinations", "[engine][corrupt]") {
  std::mt19937_64 random(random_seed());
  const Sample sample(random, 15);
  std::vector<std::size_t> filled;  // in the order of the file
  for (std::size_t i = 0; i < sample.contents().size(); ++i) {
    if (!sample.contents()[i].data.empty()) filled.push_back(i);
  }
  REQUIRE(filled.size() > 2);
  for (int round = 0; round < 10; ++round) {
    std::string damaged = sample.expected();
    std::size_t first = filled.size();
    for (int i = 0; i < 2; ++i) {
      const std::size_t which = random() % filled.size();
      const WriteRecord& record = sample.plan().records[filled[which]];
      damaged[record.data_offset + random() % record.n_bytes] ^= 4;
      first = std::min(first, which);
    }
    if (damaged == sample.expected()) continue;  // the same bit twice
    const PlainSource source(damaged, -1, round % 2 == 0 ? damaged.size() : 0);
    for (const ReadCheck check : {ReadCheck::while_reading, ReadCheck::before_reading}) {
      IoEngine engine({3});
      Reading reading(sample, check, random, round % 3 == 0);
      bool is_reported = false;
      try {
        engine.read(source, reading.plan);
      } catch (const Damage& damage) {
        is_reported = true;
        const WriteRecord& record = sample.plan().records[filled[first]];
        CHECK(reading.plan.ranges[damage.index].offset == record.data_offset);
        CHECK(damage.crc == crc32(0, damaged.data() + record.data_offset, record.n_bytes));
      }
      CHECK(is_reported);
      if (check == ReadCheck::before_reading) CHECK(reading.is_untouched());
    }
    Reading reading(sample, ReadCheck::none, random);
    CHECK_NOTHROW(IoEngine({3}).read(source, reading.plan));
  }
}

TEST_CASE("IoEngine.ARangeOutsideTheFileIsRefusedBeforeAnythingIsRead", "[engine][corrupt]") {
  std::string destination(10, '!');
  for (const ReadRange outside :
       {ReadRange{90, 11, destination.data()}, ReadRange{101, 0, nullptr}, ReadRange{~std::uint64_t{0}, 2, nullptr}}) {
    const PlainSource source(std::string(100, 'x'));
    ReadPlan plan;
    plan.check = ReadCheck::none;
    plan.ranges = {{0, 10, destination.data()}, outside};
    CHECK_THROWS_AS(IoEngine({2}).read(source, plan), IoError);
    CHECK(source.n_read == 0);
    CHECK(destination == std::string(10, '!'));
  }
}

TEST_CASE("IoEngine.AnErrorOfReadingLeavesWhatTheCheckPromises", "[engine]") {
  std::mt19937_64 random(random_seed());
  const Sample sample(random, 25);
  const std::string content = sample.expected();
  const PlainSource whole(content);
  Reading all(sample, ReadCheck::before_reading, random);
  IoEngine engine({2});
  engine.read(whole, all.plan);
  // The second pass takes no more reads than the first.
  for (const int failing_read : {0, whole.n_reads / 2 - 1}) {
    const PlainSource source(content, failing_read);
    Reading reading(sample, ReadCheck::before_reading, random);
    CHECK_THROWS_WITH(engine.read(source, reading.plan), ContainsSubstring("a broken disk"));
    CHECK(reading.is_untouched());
    engine.read(PlainSource(content), reading.plan);
  }
}

TEST_CASE("IoEngine.NothingIsReadThatNobodyWants", "[engine]") {
  const std::string content(3 * kPartBytes, 'x');
  const std::uint32_t crc = crc32(0, content.data(), kPartBytes);
  std::string destination(kPartBytes, '!');
  ReadPlan plan;
  plan.ranges = {{0, kPartBytes, nullptr, crc}, {kPartBytes, kPartBytes, nullptr, {}}};
  const PlainSource source(content);
  SECTION("neither destination nor CRC") {
    IoEngine({2}).read(source, plan);
    CHECK(source.n_read == kPartBytes);
  }
  SECTION("a CRC that is not looked at") {
    plan.check = ReadCheck::none;
    IoEngine({2}).read(source, plan);
    CHECK(source.n_read == 0);
  }
}

TEST_CASE("IoEngine.ThousandsOfSmallNeighboursCostFewCalls", "[engine]") {
  constexpr std::size_t kRanges = 10'000, kBytes = 200, kStep = 320;
  std::mt19937_64 random(random_seed());
  const std::string content = bytes_of(random, kRanges * kStep);
  std::string destination(kRanges * kBytes, '!');
  ReadPlan plan;
  for (std::size_t i = 0; i < kRanges; ++i) {
    plan.ranges.push_back(
        {i * kStep, kBytes, destination.data() + i * kBytes, crc32(0, content.data() + i * kStep, kBytes)});
  }
  plan.check = ReadCheck::while_reading;
  const PlainSource source(content);
  IoEngine({2}).read(source, plan);
  CHECK(source.n_reads <= 8);
  for (std::size_t i = 0; i < kRanges; ++i)
    REQUIRE(content.compare(i * kStep, kBytes, destination, i * kBytes, kBytes) == 0);
}

TEST_CASE("IoEngine.AWindowIsReadAcrossTheBordersOfItsRanges", "[engine]") {
  constexpr std::size_t kRanges = 40, kBytes = 200'000, kStep = kBytes + 120, kFirst = 777;
  std::mt19937_64 random(random_seed());
  const std::string content = bytes_of(random, kFirst + kRanges * kStep);
  const Window window(0, content.size());
  ReadPlan plan;
  plan.check = ReadCheck::while_reading;
  plan.windows = {window.plan()};
  for (std::size_t i = 0; i < kRanges; ++i) {
    const std::size_t offset = kFirst + i * kStep;
    plan.ranges.push_back({offset, kBytes, window.place_of(offset), crc32(0, content.data() + offset, kBytes)});
  }
  const PlainSource source(content);
  IoEngine({2}).read(source, plan);
  CHECK(source.n_reads <= 20);  // by ranges it would be 40
  CHECK(content.compare(kFirst, kBytes, window.place_of(kFirst), kBytes) == 0);
  const std::size_t last = kFirst + (kRanges - 1) * kStep;
  CHECK(content.compare(last, kBytes, window.place_of(last), kBytes) == 0);
}

TEST_CASE("IoEngine.ThreadsMayShareOneAndItMayBeReleasedAnyTime", "[engine]") {
  std::mt19937_64 random(random_seed());
  const Sample sample(random, 12);
  const std::string expected = sample.expected();
  IoEngine engine({2});
  std::atomic<int> n_wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 own(t);
      for (int i = 0; i < 4; ++i) {
        PlainFile file(t == 0 ? Place::blocks : Place::positions);
        engine.write(file, sample.plan());
        n_wrong += file.content() != expected;
        Reading reading(sample, ReadCheck::before_reading, own);
        engine.read(PlainSource(expected), reading.plan);
        for (std::size_t r = 0; r < reading.size(); ++r) n_wrong += reading.found(r) != sample.contents()[r].data;
        engine.release();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(n_wrong == 0);
}
