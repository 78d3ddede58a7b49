// SPDX-License-Identifier: Apache-2.0
#include "codec/torchscript_code.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

namespace ckptio::detail {

namespace {

enum class Kind { name, number, string, symbol, indent, line_end };

struct Token {
  Kind kind;
  std::string_view text;  // of an indent: its blanks
  std::size_t line;
};

bool is_name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool is_name_part(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Python's lexical structure, as far as TorchScript's serialized code uses it. Line ends within brackets are no
// tokens; comments and blank lines leave none.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> tokens() {
    while (at_ < text_.size()) {
      if (line_begins_ && depth_ == 0) take_indent();
      if (at_ < text_.size()) take();
    }
    end_line();
    return std::move(tokens_);
  }

 private:
  void add(Kind kind, std::size_t n_chars) {
    tokens_.push_back({kind, text_.substr(at_, n_chars), line_});
    at_ += n_chars;
  }

  void take_indent() {
    std::size_t n_blanks = 0;
    while (at_ + n_blanks < text_.size() && (text_[at_ + n_blanks] == ' ' || text_[at_ + n_blanks] == '\t')) ++n_blanks;
    add(Kind::indent, n_blanks);
    line_begins_ = false;
  }

  void end_line() {
    if (!tokens_.empty() && tokens_.back().kind == Kind::indent) {
      tokens_.pop_back();
    } else if (!tokens_.empty() && tokens_.back().kind != Kind::line_end) {
      tokens_.push_back({Kind::line_end, {}, line_});
    }
    line_begins_ = true;
  }

  void take() {
    const char c = text_[at_];
    if (c == '\n') {
      if (depth_ == 0) end_line();
      ++at_;
      ++line_;
    } else if (c == ' ' || c == '\r') {
      ++at_;
    } else if (c == '#') {
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    } else if (c == '"' || c == '\'') {
      take_string(c);
    } else if (is_name_start(c)) {
      take_while(Kind::name, is_name_part);
    } else if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
      take_while(Kind::number, [](char d) { return is_name_part(d) || d == '.'; });
    } else {
      depth_ += (c == '(' || c == '[' || c == '{') ? 1 : 0;
      depth_ -= (c == ')' || c == ']' || c == '}') && depth_ > 0 ? 1 : 0;
      add(Kind::symbol, 1);
    }
  }

  template <class Predicate>
  void take_while(Kind kind, const Predicate& belongs) {
    std::size_t n_chars = 1;
    while (at_ + n_chars < text_.size() && belongs(text_[at_ + n_chars])) ++n_chars;
    add(kind, n_chars);
  }

  void take_string(char quote) {
    const std::string triple(3, quote);
    const bool is_triple = text_.substr(at_, 3) == triple;
    std::size_t end = at_ + (is_triple ? 3 : 1);
    while (end < text_.size()) {
      if (text_[end] == '\\') {
        end += 2;
      } else if (is_triple ? text_.substr(end, 3) == triple : text_[end] == quote) {
        break;
      } else {
        ++end;
      }
    }
    const std::size_t stop = std::min(end + (is_triple ? 3 : 1), text_.size());
    add(Kind::string, stop - at_);
  }

  std::string_view text_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  int depth_ = 0;
  bool line_begins_ = true;
};

bool opens(const Token& token) {
  return token.kind == Kind::symbol && std::string_view("([{").find(token.text) != std::string_view::npos;
}
bool closes(const Token& token) {
  return token.kind == Kind::symbol && std::string_view(")]}").find(token.text) != std::string_view::npos;
}
bool is(const Token& token, std::string_view text) { return token.kind != Kind::string && token.text == text; }

// Literals: numbers, strings, None, True, False, and lists, tuples and dicts of them.
bool is_literal_part(const Token& token) {
  static const std::set<std::string_view> kNames{"None", "True", "False", "inf", "nan"};
  if (token.kind == Kind::symbol)
    return opens(token) || closes(token) || std::string_view("-,:").find(token.text) != std::string_view::npos;
  return token.kind == Kind::number || token.kind == Kind::string ||
         (token.kind == Kind::name && kNames.count(token.text) != 0);
}

// A call or an index on a literal is no literal: "a"("b"), [f][0].
bool is_literal(const std::vector<Token>& tokens, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    if (!is_literal_part(tokens[i])) return false;
    const bool after_value = i > begin && (closes(tokens[i - 1]) || tokens[i - 1].kind != Kind::symbol);
    if (opens(tokens[i]) && after_value) return false;
  }
  return begin < end;
}

// A type expression: Tensor, List[int], __torch__.Net
bool is_type(const std::vector<Token>& tokens, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    const bool allowed = tokens[i].kind == Kind::name || is(tokens[i], ".") || is(tokens[i], "[") ||
                         is(tokens[i], "]") || is(tokens[i], ",");
    if (!allowed) return false;
  }
  return begin < end;
}

// A string token's text, as far as names of attributes need it: \" and \\ are undone.
std::string unquoted(std::string_view token) {
  std::string text;
  for (std::size_t i = 1; i + 1 < token.size(); ++i) {
    if (token[i] == '\\' && i + 2 < token.size()) ++i;
    text += token[i];
  }
  return text;
}

class Examiner {
 public:
  Examiner(const std::string& name, std::vector<Token> tokens) : name_(name), tokens_(std::move(tokens)) {}

  TorchScriptCode examine() {
    refuse_torchbind();
    std::size_t begin = 0;
    while (begin < tokens_.size()) {
      std::size_t end = begin;
      while (end < tokens_.size() && tokens_[end].kind != Kind::line_end) ++end;
      statement(begin, end);
      begin = end + 1;
    }
    return std::move(code_);
  }

 private:
  void refuse(std::size_t at, const std::string& what) {
    code_.unsafe.push_back(name_ + " line " + std::to_string(tokens_[at].line) + ": " + what);
  }

  void refuse_torchbind() {
    for (std::size_t i = 0; i + 2 < tokens_.size(); ++i) {
      if (is(tokens_[i], "torch") && is(tokens_[i + 1], ".") && is(tokens_[i + 2], "classes")) {
        return refuse(i, "a TorchBind class, whose C++ __setstate__ runs when it is read");
      }
    }
  }

  // One logical line, its indent first.
  void statement(std::size_t begin, std::size_t end) {
    if (end - begin < 2 || tokens_[begin].kind != Kind::indent) return refuse(begin, "unusual structure");
    const std::string_view indent = tokens_[begin].text;
    if (indent.find('\t') != std::string_view::npos) return refuse(begin, "indented by tabs");
    if (body_indent_ && indent.size() > *body_indent_) return;  // inside a function
    body_indent_.reset();
    if (indent.empty()) in_class_ = false;
    for (std::size_t i = begin; i < end; ++i) {
      if (is(tokens_[i], ";") || is(tokens_[i], "\\") || is(tokens_[i], "@")) return refuse(i, "unusual structure");
    }
    if (is(tokens_[begin + 1], "def")) return function(begin, end);
    if (is(tokens_[begin + 1], "class")) return class_statement(begin + 2, end);
    assignment(begin + 1, end);
  }

  // From the name on: `Net(Module):`
  void class_statement(std::size_t begin, std::size_t end) {
    TorchScriptClass& defined = code_.classes.emplace_back();
    in_class_ = true;
    if (begin < end) defined.name = tokens_[begin].text;
    if (begin + 2 < end && is(tokens_[begin + 1], "(")) defined.base = tokens_[begin + 2].text;
  }

  void function(std::size_t begin, std::size_t end) {
    body_indent_ = tokens_[begin].text.size();
    const std::string name = begin + 2 < end ? std::string(tokens_[begin + 2].text) : "";
    code_.functions.push_back(in_class_ ? code_.classes.back().name + "." + name : name);
    if (in_class_ && name == "__setstate__") code_.classes.back().has_setstate = true;
    int depth = 0;
    for (std::size_t i = begin + 3; i < end; ++i) {
      depth += opens(tokens_[i]) ? 1 : 0;
      depth -= closes(tokens_[i]) ? 1 : 0;
      if (depth == 0) return;  // past the arguments
      if (depth == 1 && is(tokens_[i], "=")) i = default_value(i + 1, end, name) - 1;
    }
  }

  // Gives the position after it.
  std::size_t default_value(std::size_t begin, std::size_t end, const std::string& function) {
    int depth = 0;
    std::size_t i = begin;
    for (; i < end; ++i) {
      if (depth == 0 && (is(tokens_[i], ",") || closes(tokens_[i]))) break;
      depth += opens(tokens_[i]) ? 1 : 0;
      depth -= closes(tokens_[i]) ? 1 : 0;
    }
    if (!is_literal(tokens_, begin, i)) refuse(begin, "a default value of '" + function + "' is computed");
    return i;
  }

  // `name : type`, `name : type = literal`, `__parameters__ = [...]`, `__annotations__["0"] = type`, or anything else.
  void assignment(std::size_t begin, std::size_t end) {
    int depth = 0;
    for (std::size_t i = begin; i < end; ++i) {
      depth += opens(tokens_[i]) ? 1 : 0;
      depth -= closes(tokens_[i]) ? 1 : 0;
      if (depth != 0 || !is(tokens_[i], "=")) continue;
      if (in_class_ && is(tokens_[begin], "__parameters__")) take_names(i + 1, end, code_.classes.back().parameters);
      if (in_class_ && is(tokens_[begin], "__buffers__")) take_names(i + 1, end, code_.classes.back().buffers);
      const bool annotation = is(tokens_[begin], "__annotations__") && is_type(tokens_, i + 1, end);
      if (!annotation && !is_literal(tokens_, i + 1, end)) {
        refuse(begin, "the value of '" + std::string(tokens_[begin].text) + "' is computed");
      }
      return;
    }
    const bool declaration = tokens_[begin].kind == Kind::name && begin + 2 < end && is(tokens_[begin + 1], ":") &&
                             is_type(tokens_, begin + 2, end);
    if (!declaration && !is(tokens_[begin], "pass")) refuse(begin, "unusual structure");
  }

  void take_names(std::size_t begin, std::size_t end, std::vector<std::string>& names) const {
    for (std::size_t i = begin; i < end; ++i) {
      if (tokens_[i].kind == Kind::string) names.push_back(unquoted(tokens_[i].text));
    }
  }

  const std::string& name_;
  std::vector<Token> tokens_;
  TorchScriptCode code_;
  bool in_class_ = false;                   // code_.classes.back()
  std::optional<std::size_t> body_indent_;  // of the def whose body we are in
};

}  // namespace

TorchScriptCode examine_torchscript(const std::string& name, std::string_view text) {
  TorchScriptCode code = Examiner(name, Lexer(text).tokens()).examine();
  for (const std::string& function : code.functions) {
    if (function.ends_with("__setstate__")) code.unsafe.push_back(name + ": '" + function + "' runs when it is read");
  }
  const bool named = text.find("__setstate__") != std::string_view::npos;
  if (named && code.unsafe.empty()) code.unsafe.push_back(name + ": names __setstate__");
  return code;
}

std::string torchbind_class_in(std::string_view pickle) {
  constexpr std::string_view kPrefix = "__torch__.torch.classes";
  // Module and name of a class are two lines of a pickle, parted at any of the dots.
  const auto same = [](char a, char b) { return a == b || (a == '\n' && b == '.'); };
  const auto found = std::search(pickle.begin(), pickle.end(), kPrefix.begin(), kPrefix.end(), same);
  std::string name;
  for (auto c = found; c != pickle.end() && (is_name_part(*c) || *c == '.' || *c == '\n'); ++c) {
    name += *c == '\n' ? '.' : *c;
  }
  return name;
}

}  // namespace ckptio::detail
