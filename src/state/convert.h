// SPDX-License-Identifier: Apache-2.0
// Numbers, strings and lists of options and scheduler states, between Value and C++: save_value<T> and read_value<T>,
// which gives nullopt where the value is no T.
//
// Python accepts a 0-dim tensor wherever an optimizer has a number (lr=torch.tensor(0.1)), so reading does too.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/item.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "ckptio/value.h"
#include "ckptio/verify.h"

namespace ckptio::detail {

inline std::optional<double> read_double(const Value& value) {
  if (value.is<double>() || value.is<std::int64_t>()) return value.as<double>();
  const at::Tensor* tensor = value.get_if<at::Tensor>();
  if (tensor == nullptr || !tensor->defined() || tensor->dim() != 0 || tensor->is_meta()) return std::nullopt;
  if (tensor->is_complex() || tensor->scalar_type() == at::kBool) return std::nullopt;
  verify(*tensor);
  return tensor->item().toDouble();
}

template <class T>
struct Converter;  // name(): what it is called in errors; save(); read()

template <>
struct Converter<double> {
  static std::string name() { return "float"; }
  static Value save(double value) { return value; }
  static std::optional<double> read(const Value& value) { return read_double(value); }
};

template <>
struct Converter<bool> {
  static std::string name() { return "bool"; }
  static Value save(bool value) { return value; }
  static std::optional<bool> read(const Value& value) {
    return value.is<bool>() ? std::optional(value.as<bool>()) : std::nullopt;
  }
};

template <>
struct Converter<std::int64_t> {
  static std::string name() { return "int"; }
  static Value save(std::int64_t value) { return value; }
  static std::optional<std::int64_t> read(const Value& value) {
    return value.is<std::int64_t>() ? std::optional(value.as<std::int64_t>()) : std::nullopt;
  }
};

template <>
struct Converter<std::string> {
  static std::string name() { return "str"; }
  static Value save(const std::string& value) { return value; }
  static std::optional<std::string> read(const Value& value) {
    return value.is<std::string>() ? std::optional(value.as<std::string>()) : std::nullopt;
  }
};

template <class T>
struct Converter<std::optional<T>> {
  static std::string name() { return Converter<T>::name() + " or None"; }
  static Value save(const std::optional<T>& value) { return value ? Converter<T>::save(*value) : Value(); }
  static std::optional<std::optional<T>> read(const Value& value) {
    if (value.is_null()) return std::optional<T>();
    std::optional<T> held = Converter<T>::read(value);
    return held ? std::optional(held) : std::nullopt;
  }
};

template <class T>
struct Converter<std::vector<T>> {
  static std::string name() { return "list of " + Converter<T>::name(); }
  static Value save(const std::vector<T>& values) {
    List items;
    for (const T& value : values) items.push_back(Converter<T>::save(value));
    return items;
  }
  static std::optional<std::vector<T>> read(const Value& value) {
    const Sequence* items = value.get_if<List>();
    if (items == nullptr) items = value.get_if<Tuple>();
    if (items == nullptr) return std::nullopt;
    std::vector<T> result;
    for (const Value& item : *items) {
      std::optional<T> held = Converter<T>::read(item);
      if (!held) return std::nullopt;
      result.push_back(std::move(*held));
    }
    return result;
  }
};

// betas
template <>
struct Converter<std::tuple<double, double>> {
  static std::string name() { return "tuple of two floats"; }
  static Value save(const std::tuple<double, double>& value) { return Tuple{std::get<0>(value), std::get<1>(value)}; }
  static std::optional<std::tuple<double, double>> read(const Value& value) {
    const auto items = Converter<std::vector<double>>::read(value);
    if (!items || items->size() != 2) return std::nullopt;
    return std::tuple(items->at(0), items->at(1));
  }
};

template <class T>
Value save_value(const T& value) {
  return Converter<T>::save(value);
}

template <class T>
std::optional<T> read_value(const Value& value) {
  return Converter<T>::read(value);
}

}  // namespace ckptio::detail
