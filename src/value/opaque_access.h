// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "ckptio/opaque.h"

namespace ckptio::detail {

// The way into Opaque's private parts for those who make and write them.
struct OpaqueAccess {
  static Opaque make(std::shared_ptr<const OpaqueContext> context, const Object* object) noexcept {
    return Opaque(std::move(context), object);
  }
  static const Object* object(const Opaque& opaque) noexcept { return opaque.object_; }
  static const std::shared_ptr<const OpaqueContext>& context(const Opaque& opaque) noexcept { return opaque.context_; }
  static std::size_t identity(const Opaque& opaque) noexcept { return std::hash<const Object*>()(opaque.object_); }
};

}  // namespace ckptio::detail
