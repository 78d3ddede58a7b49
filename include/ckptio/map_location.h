// SPDX-License-Identifier: Apache-2.0
// MapLocation: on which device the tensors of a checkpoint arrive; torch.load's `map_location`.
//
//   {}                                  the CPU, whatever device they were saved from (Lightning's default: resuming
//                                       never allocates a second copy on an accelerator)
//   "cuda:0", torch::kCUDA, device      that device
//   {{"cuda:1", "cuda:0"}}, std::map    from saved location to location; one that is not listed is restored where
//                                       it was
//   a callable                          asked once per storage, see below
//
// Storages that tensors share are moved once and stay shared. A device that this machine lacks is an
// UnsupportedError. A value; distinct objects may be used from any thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "ckptio/error.h"

namespace ckptio {

namespace detail {
template <class T>
concept DeviceLike = std::convertible_to<T, c10::Device> || std::convertible_to<T, std::string_view> ||
    std::convertible_to<T, std::optional<c10::Device>>;
// Says where a storage goes, from the location it was saved from.
template <class F>
concept LocationFunction = requires(const F& f, const std::string& location) {
  { f(location) } -> DeviceLike;
};
// As in Python: storage (on the CPU) and location in; the storage to use out, or a device.
template <class F>
concept StorageFunction = requires(const F& f, const c10::Storage& storage, const std::string& location) {
  { f(storage, location) } -> std::convertible_to<std::optional<c10::Storage>>;
}
|| requires(const F& f, const c10::Storage& storage, const std::string& location) {
  { f(storage, location) } -> DeviceLike;
};
}  // namespace detail

class MapLocation {
 public:
  using Table = std::map<std::string, std::string>;

  MapLocation() = default;
  MapLocation(std::nullopt_t) {}
  MapLocation(c10::Device device) : rule_(device) {}
  MapLocation(c10::DeviceType type) : rule_(c10::Device(type)) {}
  // "cpu", "cuda", "cuda:1", "meta", ... A name that is none is a ValueError.
  MapLocation(const char* device) : rule_(parse_device(device)) {}
  MapLocation(const std::string& device) : rule_(parse_device(device)) {}
  MapLocation(std::initializer_list<std::pair<std::string, std::string>> table) : rule_(make_table(table)) {}
  MapLocation(Table table) : rule_(std::move(table)) {}
  // function(location) or function(storage, location). `location` is the saved one ("cpu", "cuda:0", ...), `storage`
  // the bytes on the CPU. Gives a device (c10::Device, its type, its name, or nullopt: where it was saved), or the
  // second form the storage to use itself. What the function throws leaves load_checkpoint unchanged.
  template <class F>
  requires(!std::convertible_to<F, std::string_view> && (detail::LocationFunction<F> || detail::StorageFunction<F>))
      MapLocation(F function)
      : rule_(wrap(std::move(function))) {}

  // True for `{}`.
  bool is_none() const noexcept { return std::holds_alternative<std::monostate>(rule_); }

  // For those who write formats: the storage that takes the place of `storage`, whose bytes are on the CPU and were
  // saved from `location`. Gives `storage` itself where it is to stay on the CPU. ValueError for a location that is
  // no device, UnsupportedError for one that this machine lacks.
  c10::Storage map(const c10::Storage& storage, const std::string& location) const;

  // The device that map() would move to, without bytes at hand; nullopt where only a function can tell.
  std::optional<c10::Device> device_for(const std::string& location) const;

 private:
  using Function =
      std::function<std::variant<c10::Device, c10::Storage>(const c10::Storage& storage, const std::string& location)>;

  static c10::Device parse_device(const std::string& name);
  static Table make_table(std::initializer_list<std::pair<std::string, std::string>> table);

  template <class R>
  static std::variant<c10::Device, c10::Storage> decide(const R& result, const std::string& location) {
    if constexpr (std::convertible_to<R, c10::Storage>) {
      return c10::Storage(result);
    } else if constexpr (std::convertible_to<R, c10::Device>) {
      return c10::Device(result);
    } else if constexpr (std::convertible_to<R, std::string_view>) {
      return parse_device(std::string(std::string_view(result)));
    } else {
      if (result.has_value()) return *result;
      return parse_device(location);
    }
  }

  template <class F>
  static Function wrap(F function) {
    return [function = std::move(function)](const c10::Storage& storage, const std::string& location) {
      if constexpr (detail::LocationFunction<F>) {
        return decide(function(location), location);
      } else {
        return decide(function(storage, location), location);
      }
    };
  }

  std::variant<std::monostate, c10::Device, Table, Function> rule_;
};

}  // namespace ckptio
