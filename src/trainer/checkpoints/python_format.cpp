// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoints/python_format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

constexpr int kMaxWidth = 1000;  // more than any file system takes

struct Spec {
  char fill = ' ';
  char align = '>';
  char sign = '-';
  bool alternate = false;
  int width = 0;
  std::optional<int> precision{};
  char type = '\0';
};

[[noreturn]] void throw_invalid(std::string_view spec) {
  throw ValueError("Invalid format specifier '" + std::string(spec) + "'");
}

[[noreturn]] void throw_unknown(char type, const char* type_name) {
  throw ValueError(std::string("Unknown format code '") + type + "' for object of type '" + type_name + "'");
}

bool is_align(char c) { return c == '<' || c == '>' || c == '=' || c == '^'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class SpecParser {
 public:
  explicit SpecParser(std::string_view text) : whole_(text), rest_(text) {}

  Spec parse() {
    Spec spec;
    parse_align(spec);
    if (starts_with("+- ")) spec.sign = take();
    if (starts_with("#")) spec.alternate = take() == '#';
    if (starts_with("0")) {
      take();
      if (!has_align_) spec.fill = '0', spec.align = '=';
    }
    spec.width = parse_number().value_or(0);
    if (starts_with(".")) {
      take();
      spec.precision = parse_number();
      if (!spec.precision) throw ValueError("Format specifier missing precision");
    }
    if (rest_.size() > 1) throw_invalid(whole_);
    if (!rest_.empty()) spec.type = take();
    return spec;
  }

 private:
  bool starts_with(const char* any_of) const {
    return !rest_.empty() && std::strchr(any_of, rest_.front()) != nullptr && rest_.front() != '\0';
  }

  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  void parse_align(Spec& spec) {
    if (rest_.size() >= 2 && is_align(rest_[1])) {
      spec.fill = take();
      spec.align = take();
      has_align_ = true;
    } else if (!rest_.empty() && is_align(rest_[0])) {
      spec.align = take();
      has_align_ = true;
    }
  }

  std::optional<int> parse_number() {
    if (rest_.empty() || !is_digit(rest_.front())) return std::nullopt;
    int number = 0;
    while (!rest_.empty() && is_digit(rest_.front())) {
      number = number * 10 + (take() - '0');
      if (number > kMaxWidth) throw_invalid(whole_);
    }
    return number;
  }

  std::string_view whole_;
  std::string_view rest_;
  bool has_align_ = false;
};

std::string print(const char* format, int precision, double number) {
  const int size = std::snprintf(nullptr, 0, format, precision, number);
  std::string text(static_cast<std::size_t>(size), '\0');
  std::snprintf(text.data(), text.size() + 1, format, precision, number);
  return text;
}

void strip_zeros(std::string& digits) {
  if (digits.find('.') == std::string::npos) return;
  digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.back() == '.') digits.pop_back();
}

// The exponent of a number in scientific notation: "1.5e-07" is -7.
int exponent_of(const std::string& scientific) { return std::atoi(scientific.c_str() + scientific.find('e') + 1); }

// At most `precision` digits, as a float: with a point or an exponent.
std::string general(double number, int precision) {
  precision = std::max(precision, 1);
  const std::string scientific = print("%.*e", precision - 1, number);
  const int exponent = exponent_of(scientific);
  if (exponent < -4 || exponent >= precision - 1) {
    std::string mantissa = scientific.substr(0, scientific.find('e'));
    strip_zeros(mantissa);
    return mantissa + scientific.substr(scientific.find('e'));
  }
  std::string fixed = print("%.*f", precision - 1 - exponent, number);
  strip_zeros(fixed);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

// The fewest digits that give the same number again; `magnitude` is finite and not negative.
std::string shortest(double magnitude) {
  std::array<char, 32> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), magnitude, std::chars_format::scientific).ptr;
  const std::string scientific(buffer.data(), end);
  const int exponent = exponent_of(scientific);
  if (exponent < -4 || exponent >= 16) return scientific;
  const auto n_digits = static_cast<int>(scientific.find('e') > 1 ? scientific.find('e') - 1 : 1);
  return print("%.*f", std::max(n_digits - 1 - exponent, 1), magnitude);
}

// Without its sign; `number` is not negative.
std::string format_float(double number, const Spec& spec) {
  const bool is_upper = spec.type == 'E' || spec.type == 'F' || spec.type == 'G';
  if (!std::isfinite(number)) {
    const std::string name = std::isnan(number) ? (is_upper ? "NAN" : "nan") : (is_upper ? "INF" : "inf");
    return spec.type == '%' ? name + "%" : name;
  }
  if (spec.type == '\0') return spec.precision ? general(number, *spec.precision) : shortest(number);
  if (spec.type == '%') return print(spec.alternate ? "%#.*f" : "%.*f", spec.precision.value_or(6), number * 100) + "%";
  const std::string format = std::string(spec.alternate ? "%#.*" : "%.*") + (spec.type == 'n' ? 'g' : spec.type);
  return print(format.c_str(), spec.precision.value_or(6), number);
}

std::string format_integer(std::uint64_t magnitude, const Spec& spec) {
  if (spec.precision) throw ValueError("Precision not allowed in integer format specifier");
  const bool is_hex = spec.type == 'x' || spec.type == 'X';
  const int base = is_hex ? 16 : spec.type == 'o' ? 8 : spec.type == 'b' ? 2 : 10;
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), magnitude, base).ptr;
  std::string digits(buffer.data(), end);
  if (spec.type == 'X') std::ranges::transform(digits, digits.begin(), [](char c) { return std::toupper(c); });
  return spec.alternate && base != 10 ? std::string("0") + spec.type + digits : digits;
}

std::string pad(const std::string& sign, const std::string& digits, const Spec& spec) {
  const std::size_t size = sign.size() + digits.size();
  const std::size_t n_missing = static_cast<std::size_t>(spec.width) > size ? spec.width - size : 0;
  if (spec.align == '=') return sign + std::string(n_missing, spec.fill) + digits;
  const std::size_t n_left = spec.align == '>' ? n_missing : spec.align == '^' ? n_missing / 2 : 0;
  return std::string(n_left, spec.fill) + sign + digits + std::string(n_missing - n_left, spec.fill);
}

}  // namespace

std::string python_str(const Number& number) { return python_format(number, ""); }

std::string python_format(const Number& number, std::string_view text) {
  const Spec spec = SpecParser(text).parse();
  const auto is_one_of = [&](const char* types) {
    return spec.type == '\0' || std::strchr(types, spec.type) != nullptr;
  };
  const auto* integer = std::get_if<std::int64_t>(&number);
  bool is_negative = false;
  std::string digits;
  if (integer != nullptr && is_one_of("bdnoxX")) {
    is_negative = *integer < 0;
    const auto bits = static_cast<std::uint64_t>(*integer);
    digits = format_integer(is_negative ? 0 - bits : bits, spec);
  } else if (is_one_of("eEfFgGn%")) {
    const double real = integer != nullptr ? static_cast<double>(*integer) : std::get<double>(number);
    is_negative = std::signbit(real) && !std::isnan(real);
    digits = format_float(std::abs(real), spec);
  } else {
    throw_unknown(spec.type, integer != nullptr ? "int" : "float");
  }
  return pad(is_negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign), digits, spec);
}

}  // namespace ckptio::detail
