// SPDX-License-Identifier: Apache-2.0
#include "cli/elements.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "cli/text.h"

namespace ckptio::cli {
namespace {

using detail::DType;

template <typename T>
T load(const unsigned char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <typename T>
void store(unsigned char* bytes, T value) {
  std::memcpy(bytes, &value, sizeof value);
}

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A floating-point number of few bits: sign, exponent, mantissa. `bits` has no more than those.
double small_float(unsigned bits, int n_exponent, int n_mantissa, int bias) {
  const unsigned mantissa = bits & ((1u << n_mantissa) - 1);
  const int exponent = static_cast<int>(bits >> n_mantissa & ((1u << n_exponent) - 1));
  const double sign = (bits >> (n_exponent + n_mantissa) & 1) != 0 ? -1 : 1;
  const double fraction = std::ldexp(static_cast<double>(mantissa), -n_mantissa);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

double from_half(std::uint16_t bits) {
  if ((bits >> 10 & 31) != 31) return small_float(bits, 5, 10, 15);
  if ((bits & 1023) != 0) return kNaN;
  return (bits >> 15) != 0 ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
}

double from_bfloat16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

double from_float8(DType dtype, unsigned bits) {
  switch (dtype) {
    case DType::float8_e4m3fn:
      return (bits & 0x7F) == 0x7F ? kNaN : small_float(bits, 4, 3, 7);
    case DType::float8_e5m2:
      return from_half(static_cast<std::uint16_t>(bits << 8));  // a half without its last bits
    case DType::float8_e4m3fnuz:
      return bits == 0x80 ? kNaN : small_float(bits, 4, 3, 8);
    case DType::float8_e5m2fnuz:
      return bits == 0x80 ? kNaN : small_float(bits, 5, 2, 16);
    default:
      return bits == 0xFF ? kNaN : std::ldexp(1.0, static_cast<int>(bits) - 127);  // float8_e8m0fnu
  }
}

// To the nearest, ties to even.
std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(0x7FC0);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

std::uint16_t to_half(float value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return sign | 0x7E00;
  const double size = std::fabs(static_cast<double>(value));
  if (size >= 65520) return sign | 0x7C00;  // rounds to infinity
  int exponent = 0;
  std::frexp(size, &exponent);
  const int unit = std::max(exponent - 1, -14) - 10;                // of the last bit
  const double mantissa = std::nearbyint(std::ldexp(size, -unit));  // up to 2048, which carries into the exponent
  const auto biased = static_cast<unsigned>(unit + 24);
  return static_cast<std::uint16_t>(sign | (static_cast<unsigned>(mantissa) + (biased << 10)));
}

double integer_of(DType dtype, const unsigned char* bytes) {
  switch (dtype) {
    case DType::int8:
    case DType::qint8:
      return load<std::int8_t>(bytes);
    case DType::int16:
      return load<std::int16_t>(bytes);
    case DType::int32:
    case DType::qint32:
      return load<std::int32_t>(bytes);
    case DType::int64:
      return static_cast<double>(load<std::int64_t>(bytes));
    case DType::boolean:
      return *bytes != 0;
    case DType::uint8:
    case DType::quint8:
      return *bytes;
    case DType::uint16:
      return load<std::uint16_t>(bytes);
    case DType::uint32:
      return load<std::uint32_t>(bytes);
    case DType::uint64:
      return static_cast<double>(load<std::uint64_t>(bytes));
    default:
      return kNaN;
  }
}

template <typename T>
void add(unsigned char* sum, const unsigned char* term) {
  store(sum, static_cast<T>(load<T>(sum) + load<T>(term)));
}

}  // namespace

int n_parts(DType dtype) {
  switch (dtype) {
    case DType::complex32:
    case DType::complex64:
    case DType::complex128:
    case DType::float4_e2m1fn_x2:
      return 2;
    default:
      return 1;
  }
}

double part_of(DType dtype, const unsigned char* bytes, int part) {
  switch (dtype) {
    case DType::float16:
    case DType::complex32:
      return from_half(load<std::uint16_t>(bytes + 2 * part));
    case DType::bfloat16:
      return from_bfloat16(load<std::uint16_t>(bytes));
    case DType::float32:
    case DType::complex64:
      return static_cast<double>(load<float>(bytes + 4 * part));
    case DType::float64:
    case DType::complex128:
      return load<double>(bytes + 8 * part);
    case DType::float8_e5m2:
    case DType::float8_e4m3fn:
    case DType::float8_e5m2fnuz:
    case DType::float8_e4m3fnuz:
    case DType::float8_e8m0fnu:
      return from_float8(dtype, *bytes);
    case DType::float4_e2m1fn_x2:
      return small_float(*bytes >> (4 * part) & 15u, 2, 1, 1);
    default:
      return integer_of(dtype, bytes);
  }
}

std::string element_text(DType dtype, const unsigned char* bytes) {
  switch (dtype) {
    case DType::boolean:
      return *bytes != 0 ? "True" : "False";
    case DType::int64:
      return std::to_string(load<std::int64_t>(bytes));
    case DType::uint64:
      return std::to_string(load<std::uint64_t>(bytes));
    case DType::float32: {  // the shortest text that reads back as the same float
      const float value = load<float>(bytes);
      for (int digits = 6; digits < 9; ++digits) {
        char text[32];
        std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(value));
        if (std::strtof(text, nullptr) == value) return text;
      }
      return number_text(static_cast<double>(value));
    }
    default:
      break;
  }
  const double first = part_of(dtype, bytes, 0);
  if (detail::dtype_info(dtype).swap_size == 0 || std::isnan(first)) {
    return std::isnan(first) ? "nan" : number_text(first);
  }
  std::string text = number_text(first);
  if (text.ends_with(".0") && std::isfinite(integer_of(dtype, bytes))) text.resize(text.size() - 2);
  if (n_parts(dtype) == 2) {
    const double second = part_of(dtype, bytes, 1);
    if (dtype == DType::float4_e2m1fn_x2) return text + "|" + number_text(second);
    text += (std::signbit(second) ? "" : "+") + number_text(second) + "j";
  }
  return text;
}

bool add_element(DType dtype, unsigned char* sum, const unsigned char* term) {
  switch (dtype) {
    case DType::boolean:
      *sum = *sum != 0 || *term != 0;
      return true;
    case DType::uint8:
    case DType::int8:
      add<std::uint8_t>(sum, term);
      return true;
    case DType::int16:
      add<std::uint16_t>(sum, term);
      return true;
    case DType::int32:
      add<std::uint32_t>(sum, term);
      return true;
    case DType::int64:
      add<std::uint64_t>(sum, term);
      return true;
    case DType::float32:
      add<float>(sum, term);
      return true;
    case DType::float64:
      add<double>(sum, term);
      return true;
    case DType::complex64:
      add<float>(sum, term), add<float>(sum + 4, term + 4);
      return true;
    case DType::complex128:
      add<double>(sum, term), add<double>(sum + 8, term + 8);
      return true;
    case DType::float16:
      store(sum, to_half(static_cast<float>(part_of(dtype, sum, 0) + part_of(dtype, term, 0))));
      return true;
    case DType::bfloat16:
      store(sum, to_bfloat16(static_cast<float>(part_of(dtype, sum, 0) + part_of(dtype, term, 0))));
      return true;
    default:
      return false;
  }
}

}  // namespace ckptio::cli
