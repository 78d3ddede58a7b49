// SPDX-License-Identifier: Apache-2.0
#include "codec/plain_json.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace ckptio::detail {
namespace {

constexpr std::size_t kMaxDigits = 18;  // that fit in 63 bits whatever they are

// What a backslash and this letter stand for, or nullopt.
std::optional<char> unescaped(char letter) {
  constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
  const std::size_t at = kLetters.find(letter);
  return at == kLetters.npos ? std::nullopt : std::optional(kMeanings[at]);
}

bool is_plain(char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Goes through the text; with a handler, tells it.
class PlainJson {
 public:
  PlainJson(std::string_view text, std::size_t max_depth, JsonHandler* handler, std::size_t* n_read)
      : text_(text), max_depth_(max_depth), handler_(handler), n_read_(n_read) {}

  // False where it stopped at what is not plain.
  bool run() {
    if (!value()) return false;
    while (!open_.empty()) {
      const bool is_first = std::exchange(begins_, false);
      if (take(open_.back() == JsonContainer::object ? '}' : ']')) {
        end();
      } else if ((!is_first && !take(',')) || !item()) {
        return false;
      }
    }
    return text_.find_first_not_of(' ', at_) == text_.npos;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  bool item() { return open_.back() == JsonContainer::array ? value() : key() && value(); }

  bool value() {
    const char c = peek();
    if (c == '"') return string([&](std::string&& text) { handler_->scalar(std::move(text)); });
    if (c == '-' || is_digit(c)) return integer();
    if (c == '{') return begin(JsonContainer::object);
    if (c == '[') return begin(JsonContainer::array);
    return literal("true", true) || literal("false", false) || literal("null", nullptr);
  }

  bool begin(JsonContainer container) {
    if (open_.size() == max_depth_) return false;
    ++at_;
    open_.push_back(container);
    begins_ = true;
    tell([&] { handler_->begin(container); });
    return true;
  }

  void end() {
    tell([&] { handler_->end(open_.back()); });
    open_.pop_back();
  }

  bool key() {
    return string([&](std::string&& text) { handler_->key(std::move(text)); }) && take(':');
  }

  template <class Tell>
  bool string(Tell tell_text) {
    if (!take('"')) return false;
    std::string text;
    while (!take('"')) {
      const std::size_t begin = at_;
      while (at_ < text_.size() && is_plain(text_[at_])) ++at_;
      if (handler_ != nullptr) text += text_.substr(begin, at_ - begin);
      if (!take('\\')) {
        if (peek() != '"') return false;
        continue;
      }
      const auto meant = unescaped(peek());
      if (!meant) return false;
      ++at_;
      if (handler_ != nullptr) text += *meant;
    }
    tell([&] { tell_text(std::move(text)); });
    return true;
  }

  bool integer() {
    const bool is_negative = take('-');
    const std::size_t begin = at_;
    std::uint64_t number = 0;
    for (; is_digit(peek()); ++at_) number = number * 10 + static_cast<std::uint64_t>(peek() - '0');
    const std::size_t n_digits = at_ - begin;
    const bool ends = peek() == ',' || peek() == ']' || peek() == '}';
    if (n_digits == 0 || n_digits > kMaxDigits || !ends) return false;
    if (text_[begin] == '0' && (n_digits > 1 || is_negative)) return false;
    ++at_;  // as far as one must look
    tell([&] { handler_->scalar(is_negative ? JsonScalar(-static_cast<std::int64_t>(number)) : JsonScalar(number)); });
    --at_;
    return true;
  }

  template <class T>
  bool literal(std::string_view name, T meaning) {
    if (text_.substr(at_, name.size()) != name) return false;
    at_ += name.size();
    tell([&] { handler_->scalar(meaning); });
    return true;
  }

  template <class Tell>
  void tell(Tell event) {
    if (handler_ == nullptr) return;
    *n_read_ = at_;
    event();
  }

  std::string_view text_;
  std::size_t max_depth_;
  JsonHandler* handler_;
  std::size_t* n_read_;
  std::size_t at_ = 0;
  std::vector<JsonContainer> open_;
  bool begins_ = false;  // the innermost has no item yet
};

}  // namespace

bool is_plain_json(std::string_view text, std::size_t max_depth) {
  return PlainJson(text, max_depth, nullptr, nullptr).run();
}

void tell_plain_json(std::string_view text, JsonHandler& handler, std::size_t& n_read) {
  PlainJson(text, text.size(), &handler, &n_read).run();
}

}  // namespace ckptio::detail
