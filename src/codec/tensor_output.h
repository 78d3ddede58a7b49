// SPDX-License-Identifier: Apache-2.0
// TensorOutput: what torch.save writes of dense tensors and their storages into a pickle, in the words of
// torch/_tensor.py and torch/serialization.py (2.13). Others decide when.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/dtype.h"
#include "codec/pickle_output.h"

namespace ckptio::detail {

class TensorOutput {
 public:
  struct Storage {
    DType dtype = DType::uint8;
    bool untyped = false;
    std::uint64_t n_bytes = 0;
    std::string_view location;
  };
  struct View {
    DType dtype = DType::float32;
    std::span<const std::int64_t> sizes, strides;
    std::int64_t offset = 0;
    bool conj = false, neg = false;
  };

  explicit TensorOutput(PickleOutput& out) : out_(out) {}

  // The function that makes such a view of the storage.
  static std::string_view rebuild_function(const View& view, const Storage& storage);
  // Whether the view's type is not its storage's, from which older functions take it.
  static bool needs_dtype(const View& view, const Storage& storage);

  // A global whose names are constants, of which there are few.
  void constant_global(std::string_view module, std::string_view name);
  // `key`: the number under which the file has it.
  void storage(const Storage& storage, std::uint32_t key);
  // The arguments of rebuild_function: up to the tensor's hooks, none, and behind them.
  void open_arguments(const View& view, const Storage& storage, std::uint32_t key, bool requires_grad);
  void no_hooks();
  void close_arguments(const View& view, const Storage& storage);

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  // Their addresses tell it from others; and its place in the memo.
  struct Constant {
    std::string_view module, name;
    std::uint32_t memo;
  };
  void location(std::string_view name);

  PickleOutput& out_;
  std::vector<Constant> constants_;
  std::uint32_t storage_word_ = kNone;  // in the memo
  std::string last_location_;
  std::uint32_t last_location_memo_ = kNone;
};

}  // namespace ckptio::detail
