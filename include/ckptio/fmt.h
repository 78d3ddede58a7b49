// SPDX-License-Identifier: Apache-2.0
// fmt formatters for Value and its containers: fmt::format("{}", checkpoint) prints what operator<< prints, and the
// format specifications of strings apply ("{:.80}"). Not part of ckptio.h: needs fmt, such as the headers that
// LibTorch carries (define FMT_HEADER_ONLY to use those).
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "ckptio/value.h"

namespace ckptio::detail {

template <class T>
struct ValueFormatter : fmt::formatter<std::string_view> {
  auto format(const T& value, fmt::format_context& context) const {
    return fmt::formatter<std::string_view>::format(to_string(Value(value)), context);
  }
};

}  // namespace ckptio::detail

template <>
struct fmt::formatter<ckptio::Value> : ckptio::detail::ValueFormatter<ckptio::Value> {};
template <>
struct fmt::formatter<ckptio::Dict> : ckptio::detail::ValueFormatter<ckptio::Dict> {};
template <>
struct fmt::formatter<ckptio::List> : ckptio::detail::ValueFormatter<ckptio::List> {};
template <>
struct fmt::formatter<ckptio::Set> : ckptio::detail::ValueFormatter<ckptio::Set> {};
template <>
struct fmt::formatter<ckptio::Opaque> : ckptio::detail::ValueFormatter<ckptio::Opaque> {};
template <>
struct fmt::formatter<ckptio::Tuple> : ckptio::detail::ValueFormatter<ckptio::Tuple> {};
