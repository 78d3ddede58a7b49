// SPDX-License-Identifier: Apache-2.0
// JSON as a stream of events, and strings written as JSON. The only place that knows nlohmann/json.
//
// Events instead of a tree: a tree of hostile text takes many times its bytes. Strict: RFC 8259, UTF-8, one value, no
// comments, no NUL bytes. Memory: the longest string, and a bit for each level of nesting. Threads: values.
// Without nlohmann/json (CKPTIO_HAVE_JSON) all functions but has_json() throw UnsupportedError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>

namespace ckptio::detail {

// True where this build can read and write JSON.
bool has_json() noexcept;

// Integers that fit: std::uint64_t where they are written without a sign, else std::int64_t; all other numbers are
// double. Numbers too large for a double are an error.
using JsonScalar = std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string>;
enum class JsonContainer : std::uint8_t { array, object };

// What read_json tells. What these functions throw ends the reading and passes through it.
class JsonHandler {
 public:
  virtual ~JsonHandler() = default;
  virtual void scalar(JsonScalar&& value) = 0;
  virtual void key(std::string&& name) = 0;  // names may come twice: telling is the handler's
  virtual void begin(JsonContainer container) = 0;
  virtual void end(JsonContainer container) = 0;

  // Of the byte of the text that was read last.
  std::size_t position() const noexcept { return n_read_ == 0 ? 0 : n_read_ - 1; }

 private:
  std::size_t n_read_ = 0;
  friend void read_json(std::string_view text, std::size_t max_depth, JsonHandler& handler);
};

// The text is not JSON. `position`: of the byte in the text.
class JsonError : public std::runtime_error {
 public:
  JsonError(std::size_t position, const std::string& what) : std::runtime_error(what), position(position) {}
  std::size_t position;
};

// Reads one value, of at most `max_depth` containers in each other. JsonError where the text is not that.
void read_json(std::string_view text, std::size_t max_depth, JsonHandler& handler);

// "\"text\"": escaped as serde_json does, only what must be. ValueError where it is not UTF-8.
std::string json_quote(std::string_view utf8);
void append_json_quoted(std::string& out, std::string_view utf8);  // the same, behind `out`

// The shortest text that reads as the same double, with ".0" where it is whole. Requires: finite.
std::string json_number(double value);

}  // namespace ckptio::detail
