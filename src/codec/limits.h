// SPDX-License-Identifier: Apache-2.0
// What a file may cost: the limits of the pickle reader, and why they are what they are.
//
// A file that needs more is refused with an error that names the limit. None of them bounds the storages, the tensors'
// bytes: those are read where the caller wants them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ckptio::detail {

// Of one pickle. At some nanoseconds for an opcode of one byte, reading it takes less than 10 seconds.
constexpr std::uint64_t kMaxPickleBytes = std::uint64_t{512} << 20;

// What the reader may hold at one time: objects, containers, strings, stack, memo and its tables. An opcode of one byte
// can make an object of about 100, so that a file's size alone bounds nothing. With what is made of the objects
// afterwards a process stays below 1 GiB. Some five million objects fit; a checkpoint has some thousands.
constexpr std::uint64_t kMaxGraphBytes = std::uint64_t{512} << 20;

// How deep what can be reached from the root may be nested, a cycle counting as many levels as it has containers.
// Python's pickler stops at its recursion limit, 1000 unless it was raised; code that walks the objects may recurse.
constexpr std::uint32_t kMaxDepth = 1000;

// Decimal digits of an integer written as text (opcodes INT and LONG of protocol 0): conversion is quadratic. Python's
// own limit for the same reason (sys.get_int_max_str_digits). Binary integers have none.
constexpr std::size_t kMaxIntegerDigits = 4300;

// A line of text: module and name of a global, digits of a number, a persistent id.
constexpr std::size_t kMaxLineBytes = 64 << 10;

// PyTorch's operators take tensors of up to 64 dimensions (at::dim_bitset_size).
constexpr std::size_t kMaxTensorDims = 64;

// A storage's key, location or a device's name: "0", "94826211350448", "cuda:1".
constexpr std::size_t kMaxStorageNameBytes = 255;

// How many places find_opaque lists: its result is for messages.
constexpr std::size_t kMaxOpaquePlaces = 1000;

}  // namespace ckptio::detail
