// SPDX-License-Identifier: Apache-2.0
#include "hash/hash_table.h"

#include <map>
#include <string>
#include <vector>

#include "support/catch.h"

using namespace ckptio::detail;

namespace {

// Numbers by their texts, with hashes of which many are equal.
class Texts {
 public:
  explicit Texts(std::uint64_t n_hashes) : n_hashes_(n_hashes) {}

  const std::uint32_t* find(const std::string& text) const {
    return table_.find(hash(text), [&](std::uint32_t i) { return texts_[i] == text; });
  }
  bool add(const std::string& text) {
    texts_.push_back(text);
    const auto index = static_cast<std::uint32_t>(texts_.size() - 1);
    return table_.find_or_add(hash(text), index, [&](std::uint32_t i) { return texts_[i] == text; }) == nullptr;
  }
  void erase(const std::string& text) { table_.erase(find(text)); }
  std::size_t size() const { return table_.size(); }

 private:
  std::uint64_t hash(const std::string& text) const { return (hash_of(text) % n_hashes_) << 33; }

  std::uint64_t n_hashes_;
  std::vector<std::string> texts_;
  HashTable<std::uint32_t> table_;
};

}  // namespace

TEST_CASE("A hash table finds what was added and not erased, however many hashes are equal") {
  for (const std::uint64_t n_hashes : {1, 3, 50, 1 << 20}) {
    Texts texts(n_hashes);
    CHECK(texts.find("0") == nullptr);
    for (int i = 0; i < 200; ++i) CHECK(texts.add(std::to_string(i)));
    CHECK_FALSE(texts.add("7"));
    for (int i = 0; i < 200; i += 3) texts.erase(std::to_string(i));
    CHECK(texts.size() == 200 - 67);
    for (int i = 0; i < 200; ++i) {
      const std::uint32_t* found = texts.find(std::to_string(i));
      if (i % 3 == 0) {
        CHECK(found == nullptr);
      } else {
        REQUIRE(found != nullptr);
        CHECK(*found == static_cast<std::uint32_t>(i));
      }
    }
    CHECK(texts.add("0"));
  }
}

TEST_CASE("Texts of every length differ in their hashes, and only letters differ in case") {
  std::map<std::uint64_t, std::string> seen;
  std::string text;
  for (int n = 0; n < 40; ++n, text += static_cast<char>('a' + n % 7)) {
    CHECK(seen.emplace(hash_of(text), text).second);
    std::string upper = text;
    for (char& c : upper) c = static_cast<char>(c - 'a' + 'A');
    CHECK(hash_ignoring_case(text) == hash_ignoring_case(upper));
    if (n > 0) CHECK(hash_of(text) != hash_of(upper));
  }
  for (const auto& [a, b] : std::map<std::string, std::string>{{"@", "`"}, {"[", "{"}, {"0", "P"}, {"\xC1", "\xE1"}}) {
    CHECK(hash_ignoring_case(a) != hash_ignoring_case(b));
  }
}
