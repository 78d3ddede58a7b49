// SPDX-License-Identifier: Apache-2.0
// Plain JSON (codec/plain_json.h) is told as the general reader tells it; a space before it makes that one read it.
#include "codec/plain_json.h"

#include <string>

#include "codec/json_text.h"
#include "support/catch.h"

using namespace ckptio::detail;

namespace {

constexpr std::size_t kMaxDepth = 5;

// Writes down what it is told, and where.
class Recorder final : public JsonHandler {
 public:
  explicit Recorder(std::size_t n_before) : n_before_(n_before) {}
  void scalar(JsonScalar&& value) override {
    std::string shown = std::to_string(value.index());
    if (const auto* text = std::get_if<std::string>(&value)) shown += *text;
    if (const auto* number = std::get_if<std::uint64_t>(&value)) shown += std::to_string(*number);
    if (const auto* number = std::get_if<std::int64_t>(&value)) shown += std::to_string(*number);
    if (const auto* flag = std::get_if<bool>(&value)) shown += *flag ? "true" : "false";
    add("value " + shown);
  }
  void key(std::string&& name) override { add("key " + name); }
  void begin(JsonContainer container) override { add(container == JsonContainer::array ? "[" : "{"); }
  void end(JsonContainer container) override { add(container == JsonContainer::array ? "]" : "}"); }

  std::string told;

 private:
  void add(const std::string& what) { told += what + " at " + std::to_string(position() - n_before_) + "\n"; }
  std::size_t n_before_;
};

std::string told(const std::string& text, std::size_t n_before) {
  Recorder recorder(n_before);
  try {
    read_json(text, kMaxDepth, recorder);
  } catch (const JsonError& error) {
    recorder.told += std::string(error.what()) + " at " + std::to_string(error.position - n_before);
  }
  return recorder.told;
}

}  // namespace

TEST_CASE("Plain JSON is told as the general reader tells it") {
  if (!has_json()) return;
  for (const std::string text :
       {R"({})", R"([])", R"("a")", R"({"a":[0,1,-2,999999999999999999],"b":{"c":"d","":""}}   )",
        R"([true,false,null,[[]],{"x":[]}])", R"({"a\"b\\c\/d":"\b\f\n\r\t"})",
        R"({"t":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}  )"}) {
    INFO(text);
    CHECK(is_plain_json(text, kMaxDepth));
    CHECK_FALSE(is_plain_json(" " + text, kMaxDepth));
    CHECK(told(text, 0) == told(" " + text, 1));
  }
}

TEST_CASE("All other text is left to the general reader") {
  for (const std::string text : {"",
                                 " {}",
                                 "{\"a\": 1}",
                                 "[1,]",
                                 "[,1]",
                                 "[1 ]",
                                 "{\"a\"}",
                                 "{\"a\":}",
                                 "{\"a\":1,}",
                                 "{a:1}",
                                 "[1}",
                                 "{]",
                                 "[",
                                 "{",
                                 "[1",
                                 "\"a",
                                 "[01]",
                                 "[-0]",
                                 "[-]",
                                 "[1.5]",
                                 "[1e5]",
                                 "[1000000000000000000]",
                                 "\"\\u0041\"",
                                 "\"\\x\"",
                                 "\"\xC3\xA9\"",
                                 "\"\x7F\"",
                                 "\"\n\"",
                                 "[tru]",
                                 "[[[[[[]]]]]]",
                                 "{} {}",
                                 "{}\n",
                                 "1",
                                 "nul",
                                 "[\"a\"\"b\"]"}) {
    INFO(text);
    CHECK_FALSE(is_plain_json(text, kMaxDepth));
  }
}
