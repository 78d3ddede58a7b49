// SPDX-License-Identifier: Apache-2.0
// Pickles made opcode by opcode, for tests: valid ones, and such as no pickler writes. All of it gives byte strings to
// be put together with +.
#pragma once

#include <bit>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace ckptio::test::pickle {

inline std::string little(std::uint64_t value, int n_bytes) {
  std::string bytes;
  for (int i = 0; i < n_bytes; ++i) bytes += static_cast<char>(value >> 8 * i);
  return bytes;
}

// A whole pickle of a protocol.
inline std::string doc(const std::string& body, int protocol = 2) {
  return std::string("\x80") + static_cast<char>(protocol) + body + ".";
}

inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

inline std::string str(const std::string& utf8) { return "X" + little(utf8.size(), 4) + utf8; }

inline std::string integer(std::int64_t value) {
  if (value >= 0 && value < 256) return "K" + little(static_cast<std::uint64_t>(value), 1);
  return "\x8a\x08" + little(static_cast<std::uint64_t>(value), 8);
}

inline std::string number(double value) {
  const std::string bytes = little(std::bit_cast<std::uint64_t>(value), 8);
  return "G" + std::string(bytes.rbegin(), bytes.rend());
}

inline std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}
inline std::string tuple(const std::vector<std::string>& items) { return "(" + joined(items) + "t"; }
inline std::string list(const std::vector<std::string>& items) { return "](" + joined(items) + "e"; }
inline std::string integers(const std::vector<std::int64_t>& values) {
  std::string all = "(";
  for (const std::int64_t value : values) all += integer(value);
  return all + "t";
}
// Keys and values in turn.
inline std::string dict(const std::vector<std::string>& items) { return "}(" + joined(items) + "u"; }

inline std::string call(const std::string& module, const std::string& name, const std::vector<std::string>& args) {
  return global(module, name) + tuple(args) + "R";
}
inline std::string ordered_dict() { return call("collections", "OrderedDict", {}); }
inline std::string latin1_bytes(const std::string& utf8) {
  return call("_codecs", "encode", {str(utf8), str("latin1")});
}

// BINPUT 'q' and BINGET 'h'.
inline std::string memo(char opcode, unsigned char number) { return std::string{opcode, static_cast<char>(number)}; }

inline const std::string kNone = "N";
inline const std::string kTrue = "\x88";
inline const std::string kFalse = "\x89";

inline std::string storage(const std::string& class_name = "FloatStorage", const std::string& key = "0",
                           std::int64_t n_elements = 4, const std::string& location = "cpu") {
  const std::string module = class_name == "UntypedStorage" ? "torch.storage" : "torch";
  return tuple({str("storage"), global(module, class_name), str(key), str(location), integer(n_elements)}) + "Q";
}

// torch._utils._rebuild_tensor_v2, by default of four float32 in storage '0'.
struct TensorParts {
  std::string storage = pickle::storage();
  std::string offset = integer(0);
  std::string sizes = integers({4});
  std::string strides = integers({1});
  std::string requires_grad = kFalse;
  std::string hooks = ordered_dict();
  std::string function = "_rebuild_tensor_v2";
  std::vector<std::string> more = {};  // dtype, metadata
};
inline std::string tensor(const TensorParts& parts = {}) {
  std::vector<std::string> args = {parts.storage, parts.offset,        parts.sizes,
                                   parts.strides, parts.requires_grad, parts.hooks};
  args.insert(args.end(), parts.more.begin(), parts.more.end());
  return call("torch._utils", parts.function, args);
}

}  // namespace ckptio::test::pickle
