// SPDX-License-Identifier: Apache-2.0
// Makes Values of the inert objects that readers give (codec/object.h).
//
// What is a Value in Python too becomes one; every object of an unknown class, and every container that holds itself,
// an Opaque that refers to the context. Containers that the file refers to twice become two Values; tensors stay one.
// Memory is bounded by kMaxValueBytes. Threads: any number may call with one context.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ckptio/value.h"
#include "formats/opaque_context.h"

namespace ckptio::detail {

// How many bytes the Values made of one object may take, tensors aside. A Value takes about a hundred, and each further
// reference to a container is a copy: a few hundred bytes of lists that refer to lists could otherwise fill any memory.
// That is two million values; a checkpoint has some thousands.
inline constexpr std::uint64_t kMaxValueBytes = std::uint64_t{256} << 20;

// How many values may be hashed as parts of keys: a frozenset in a frozenset in ... is hashed once for each level.
inline constexpr std::uint64_t kMaxHashedValues = 50'000'000;

// CorruptError: a tensor that is none (sparse indices out of range); UnsupportedError: beyond the limits.
Value object_to_value(const std::shared_ptr<const OpaqueContext>& context, const Object& object);

// The same, but a list, tuple, dict or set that holds itself becomes a Value nevertheless, in which it is an Opaque:
// for the outermost container of a file, and for the fields of an object that refer to it.
Value opened_to_value(const std::shared_ptr<const OpaqueContext>& context, const Object& object);

// The same without those items of `object`, a dict, that are marked.
Value opened_to_value(const std::shared_ptr<const OpaqueContext>& context, const Object& object,
                      const std::vector<bool>& left_out);

// Which storages that takes.
std::vector<bool> storages_of(const ObjectGraph& graph, const Object& object, const std::vector<bool>& left_out);

// Lets go of the storages and tensors that no Opaque in `value` needs, so that an Opaque of a few bytes does not keep a
// model in memory. Requires: `value` is all that was made of the context, and no one else reads it yet.
void release_unneeded(OpaqueContext& context, const Value& value);

}  // namespace ckptio::detail
