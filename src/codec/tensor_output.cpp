// SPDX-License-Identifier: Apache-2.0
#include "codec/tensor_output.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace ckptio::detail {
namespace {

// Whether a torch.FloatStorage or the like can stand for it; otherwise a torch.UntypedStorage.
bool is_typed(const TensorOutput::Storage& storage) {
  const DTypeInfo& info = dtype_info(storage.dtype);
  return !storage.untyped && !info.storage_class.empty() && storage.n_bytes % info.item_size == 0;
}

}  // namespace

bool TensorOutput::needs_dtype(const View& view, const Storage& storage) {
  return !is_typed(storage) || storage.dtype != view.dtype;
}

std::string_view TensorOutput::rebuild_function(const View& view, const Storage& storage) {
  return needs_dtype(view, storage) ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2";
}

void TensorOutput::constant_global(std::string_view module, std::string_view name) {
  const auto known = std::find_if(constants_.begin(), constants_.end(), [&](const Constant& constant) {
    return constant.name.data() == name.data() && constant.module.data() == module.data();
  });
  if (known != constants_.end()) return out_.get(known->memo);
  constants_.push_back({module, name, out_.global(module, name)});
}

// Most storages are where the one before is.
void TensorOutput::location(std::string_view name) {
  if (last_location_memo_ != kNone && name == last_location_) return out_.get(last_location_memo_);
  last_location_memo_ = out_.repeated_text(name);
  last_location_ = name;
}

void TensorOutput::storage(const Storage& storage, std::uint32_t key) {
  out_.opcode(op::kMark);
  if (storage_word_ == kNone) {
    storage_word_ = out_.repeated_text("storage");
  } else {
    out_.get(storage_word_);
  }
  std::uint64_t n_items = storage.n_bytes;
  if (is_typed(storage)) {
    const DTypeInfo& info = dtype_info(storage.dtype);
    constant_global("torch", info.storage_class);
    n_items /= info.item_size;
  } else {
    constant_global("torch.storage", "UntypedStorage");
  }
  std::array<char, 10> digits;
  out_.text({digits.data(), std::to_chars(digits.begin(), digits.end(), key).ptr});
  location(storage.location);
  out_.integer(static_cast<std::int64_t>(n_items));
  out_.opcode(op::kTuple);
  out_.opcode(op::kPersistentId);
}

void TensorOutput::open_arguments(const View& view, const Storage& of, std::uint32_t key, bool requires_grad) {
  out_.opcode(op::kMark);
  storage(of, key);
  out_.integer(view.offset);
  out_.integers(view.sizes);
  out_.integers(view.strides);
  out_.flag(requires_grad);
}

void TensorOutput::no_hooks() {
  constant_global("collections", "OrderedDict");
  out_.opcode(op::kEmptyTuple);
  out_.opcode(op::kReduce);
}

void TensorOutput::close_arguments(const View& view, const Storage& storage) {
  if (needs_dtype(view, storage)) constant_global("torch", dtype_name_of(view.dtype));
  if (view.conj || view.neg) out_.opcode(op::kEmptyDict);
  for (const auto& [is_set, name] : {std::pair{view.conj, "conj"}, std::pair{view.neg, "neg"}}) {
    if (!is_set) continue;
    out_.repeated_text(name);
    out_.flag(true);
    out_.opcode(op::kSetItem);
  }
  out_.opcode(op::kTuple);
}

}  // namespace ckptio::detail
