// SPDX-License-Identifier: Apache-2.0
#include "codec/json_text.h"

#include "ckptio/error.h"
#include "codec/plain_json.h"

#ifdef CKPTIO_HAVE_JSON

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

namespace ckptio::detail {
namespace {

using Json = nlohmann::json;

// Reads characters and counts them: nlohmann's events do not say where they are.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, std::size_t* n_read) : at_(at), n_read_(n_read) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*n_read_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  std::size_t* n_read_;
};

// Of "[json.exception...] parse error at line 1, column 3: syntax error ... - invalid literal; last read: '...';
// expected
// ..." the part from "syntax error" on, without what was read: that is as the file has it, and may be all of it.
std::string shortened(std::string_view what) {
  what = what.substr(0, std::min(what.find("; last read: "), what.find(" parsing '")));  // the latter: of a number
  const std::size_t column = what.find(", column ");
  const std::size_t begin =
      what.find(column == std::string_view::npos ? "] " : ": ", column == std::string_view::npos ? 0 : column);
  return std::string(begin == std::string_view::npos ? what : what.substr(begin + 2));
}

// Hands nlohmann's events on.
class Events : public nlohmann::json_sax<Json> {
 public:
  Events(JsonHandler& handler, std::size_t max_depth) : handler_(handler), max_depth_(max_depth) {}

  bool null() override { return tell(nullptr); }
  bool boolean(bool value) override { return tell(value); }
  bool number_integer(std::int64_t value) override { return tell(value); }
  bool number_unsigned(std::uint64_t value) override { return tell(value); }
  bool number_float(double value, const std::string&) override { return tell(value); }
  bool string(std::string& value) override { return tell(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }  // JSON has none
  bool key(std::string& name) override {
    handler_.key(std::move(name));
    return true;
  }
  bool start_object(std::size_t) override { return begin(JsonContainer::object); }
  bool end_object() override { return end(JsonContainer::object); }
  bool start_array(std::size_t) override { return begin(JsonContainer::array); }
  bool end_array() override { return end(JsonContainer::array); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    throw JsonError(position == 0 ? 0 : position - 1, shortened(error.what()));
  }

 private:
  template <class T>
  bool tell(T&& value) {
    handler_.scalar(JsonScalar(std::forward<T>(value)));
    return true;
  }
  bool begin(JsonContainer container) {
    if (depth_ == max_depth_) {
      throw JsonError(handler_.position(), "nested deeper than " + std::to_string(max_depth_) + " levels");
    }
    ++depth_;
    handler_.begin(container);
    return true;
  }
  bool end(JsonContainer container) {
    --depth_;
    handler_.end(container);
    return true;
  }

  JsonHandler& handler_;
  std::size_t max_depth_;
  std::size_t depth_ = 0;
};

}  // namespace

bool has_json() noexcept { return true; }

void read_json(std::string_view text, std::size_t max_depth, JsonHandler& handler) {
  // A NUL would end nlohmann's reading as if the text ended there.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) throw JsonError(nul, "a NUL byte");
  handler.n_read_ = 0;
  if (is_plain_json(text, max_depth)) return tell_plain_json(text, handler, handler.n_read_);
  Events events(handler, max_depth);
  Json::sax_parse(CountingIterator(text.data(), &handler.n_read_),
                  CountingIterator(text.data() + text.size(), &handler.n_read_), &events);
}

// Most text is printable ASCII, of which two characters are escaped; the library takes ten times as long.
void append_json_quoted(std::string& out, std::string_view utf8) {
  if (!std::all_of(utf8.begin(), utf8.end(), [](char c) { return c >= ' ' && c <= '~'; })) {
    try {
      out += Json(utf8).dump();
    } catch (const Json::type_error&) {
      throw ValueError("text that is not UTF-8 cannot be written as JSON");
    }
    return;
  }
  out += '"';
  for (auto at = utf8.begin();;) {
    const auto escaped = std::find_if(at, utf8.end(), [](char c) { return c == '"' || c == '\\'; });
    out.append(at, escaped);
    if (escaped == utf8.end()) break;
    out += '\\';
    out += *escaped;
    at = escaped + 1;
  }
  out += '"';
}

std::string json_quote(std::string_view utf8) {
  std::string text;
  append_json_quoted(text, utf8);
  return text;
}

std::string json_number(double value) { return Json(value).dump(); }

}  // namespace ckptio::detail

#else

namespace ckptio::detail {
namespace {

[[noreturn]] void throw_no_json() {
  throw UnsupportedError("this build of ckptio cannot read or write JSON: it was made without nlohmann/json");
}

}  // namespace

bool has_json() noexcept { return false; }
void read_json(std::string_view, std::size_t, JsonHandler&) { throw_no_json(); }
std::string json_quote(std::string_view) { throw_no_json(); }
void append_json_quoted(std::string&, std::string_view) { throw_no_json(); }
std::string json_number(double) { throw_no_json(); }

}  // namespace ckptio::detail

#endif
